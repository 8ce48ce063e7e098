// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.30;

interface IToken {
    function balanceOf(address owner) external view returns (uint256);
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// A market of two tokens that keeps the product of its reserves, with what makes a swap on mainnet
/// cost what it does: tokens pulled and pushed, a lock, prices summed over time, the protocol's
/// share of the fees, and the product checked at the end. There is no way to add liquidity: the
/// first block's `pre` does that, so the order of the fields is part of the generator's contract
/// with this file.
contract Pool {
    address public token0; // slot 0
    address public token1; // slot 1
    uint112 private reserve0; // slot 2, lowest 14 bytes
    uint112 private reserve1; // slot 2, next 14 bytes
    uint32 private lastSwap; // slot 2, highest 4 bytes: seconds
    uint256 public summedPrice0; // slot 3: price of token 0 in token 1, in 2^-112, times seconds
    uint256 public summedPrice1; // slot 4
    uint256 public protocolShare; // slot 5: in units of the square root of the product
    uint256 private unlocked; // slot 6: 1 or 2
    mapping(address => uint256) public traded; // slot 7: by trader, for rebates

    event Swap(address indexed trader, bool zeroForOne, uint256 paid, uint256 received);
    event Reserves(uint112 reserve0, uint112 reserve1);

    /// Sells `paid` of one token for at least `least` of the other.
    function swap(bool zeroForOne, uint256 paid, uint256 least) external returns (uint256 received) {
        require(unlocked == 1, "locked");
        unlocked = 2;
        (uint256 before0, uint256 before1) = (reserve0, reserve1);
        (IToken sold, IToken bought) =
            zeroForOne ? (IToken(token0), IToken(token1)) : (IToken(token1), IToken(token0));
        {
            (uint256 ofSold, uint256 ofBought) = zeroForOne ? (before0, before1) : (before1, before0);
            uint256 afterFee = paid * 997; // three thousandths stay here
            received = afterFee * ofBought / (ofSold * 1000 + afterFee);
        }
        require(received >= least, "too little");
        require(sold.transferFrom(msg.sender, address(this), paid), "not paid");
        require(bought.transfer(msg.sender, received), "not received");

        uint256 after0 = IToken(token0).balanceOf(address(this));
        uint256 after1 = IToken(token1).balanceOf(address(this));
        uint256 rootBefore = root(before0 * before1);
        uint256 rootAfter = root(after0 * after1);
        require(rootAfter >= rootBefore, "product");
        protocolShare += (rootAfter - rootBefore) / 6;

        settle(before0, before1, after0, after1);
        traded[msg.sender] += paid;
        emit Swap(msg.sender, zeroForOne, paid, received);
        unlocked = 1;
    }

    function settle(uint256 before0, uint256 before1, uint256 after0, uint256 after1) private {
        uint32 time = uint32(block.timestamp);
        unchecked {
            uint32 passed = time - lastSwap;
            summedPrice0 += ((before1 << 112) / before0) * passed;
            summedPrice1 += ((before0 << 112) / before1) * passed;
        }
        require(after0 <= type(uint112).max && after1 <= type(uint112).max, "too much");
        (reserve0, reserve1, lastSwap) = (uint112(after0), uint112(after1), time);
        emit Reserves(uint112(after0), uint112(after1));
    }

    /// The square root, rounded down, by Newton's way. It is below 2^112, since neither reserve is
    /// beyond that.
    function root(uint256 product) private pure returns (uint256 r) {
        uint256 next = 1 << 112;
        do {
            r = next;
            next = (product / r + r) / 2;
        } while (next < r);
    }
}
