//! One call of each precompile, with an input that makes it do all of its work.
//!
//! Each input is made from the generators of its curve and the smallest possible numbers, so that
//! anybody can check it by hand. A unit test compares this list with revm's own: when revm adds a
//! precompile the test fails until it has a call here.

use revm::precompile::Precompiles;
use revm::primitives::{Address, B256, Bytes, hex};

/// A call of a precompile.
#[derive(Clone, Debug)]
pub struct Call {
    /// The precompile's address.
    pub address: Address,
    /// Its name, for people.
    pub name: &'static str,
    /// Its input.
    pub input: Bytes,
}

impl Call {
    /// Makes the call under the newest rules, outside of any block. False: it failed.
    pub fn succeeds(&self) -> bool {
        Precompiles::latest()
            .get(&self.address)
            .is_some_and(|precompile| precompile.execute(&self.input, GAS, 0).is_ok())
    }
}

/// The gas limit: more than any of the calls costs.
const GAS: u64 = 10_000_000;

/// The x of the generator of secp256k1.
const SECP256K1_X: [u8; 32] = hex!("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");

/// The x and y of the generator of secp256r1.
const P256: [u8; 64] = hex!(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
);
/// The hash whose signature by the key 1, with the nonce 1, has s = 1: 1 - x, modulo the order of
/// the curve.
const P256_HASH: [u8; 32] = hex!("94e82e0c1ed3bdb90743191a9c5bbf0d45e37d2c792c6ae3ff18917d23ca62bc");

/// The generator of G2 of BN254, as in EIP-197: imaginary parts first.
const BN254_G2: [u8; 128] = hex!(
    "198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2"
    "1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed"
    "090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b"
    "12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa"
);
/// The negated y of the generator of G1 of BN254, (1, 2): the field's prime minus 2.
const BN254_MINUS_TWO: [u8; 32] = hex!("30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd45");

/// The generator of G1 of BLS12-381: x, y, and the field's prime minus y.
const BLS_X: [u8; 48] =
    hex!("17f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb");
const BLS_Y: [u8; 48] =
    hex!("08b3f481e3aaa0f1a09e30ed741d8ae4fcf5e095d5d00af600db18cb2c04b3edd03cc744a2888ae40caa232946c5e7e1");
const BLS_MINUS_Y: [u8; 48] =
    hex!("114d1d6855d545a8aa7d76c8cf2e21f267816aef1db507c96655b9d5caac42364e6f38ba0ecb751bad54dcd6b939c2ca");
/// The generator of G2 of BLS12-381, real parts first.
const BLS_G2: [[u8; 48]; 4] = [
    hex!("024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"),
    hex!("13e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"),
    hex!("0ce5d527727d6e118cc9cdc6da2e351aadfd9baa8cbdd3a76d429a695160d12c923ac9cc3baca289e193548608b82801"),
    hex!("0606c4a02ea734cc32acd2b02bc28b99cb3e287e85a763af267492ab572e99ab3f370d275cec1da1aaa9075ff05f79be"),
];
/// The commitment to the polynomial X, compressed: the generator of G1 times the secret of
/// Ethereum's KZG ceremony.
const KZG_TAU: [u8; 48] =
    hex!("ad3eb50121139aa34db1d545093ac9374ab7bca2c0f3bf28e27c8dcd8fc7cb42d25926fc0c97b336e9f0fb35e5a04c81");
/// Its versioned hash (EIP-4844).
const KZG_TAU_HASH: [u8; 32] = hex!("014fa3bb4018340ca2fa8eb239e23af6ba465f6d5bc31db78988445da078db76");
/// The generator of G1 compressed: the proof for the polynomial X at any point, since (X - z) / (X
/// - z) is 1.
const KZG_ONE: [u8; 48] =
    hex!("97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb");

/// All calls. A precompile that has two ways to its result has two calls.
pub fn calls() -> Vec<Call> {
    let call = |address: u16, name, input: Vec<u8>| Call {
        address: Address::left_padding_from(&address.to_be_bytes()),
        name,
        input: input.into(),
    };
    let (g1, g2) = (bls_g1(&BLS_Y), bls_g2());
    vec![
        // Every signature whose r is an x on the curve recovers some key.
        call(0x01, "ecrecover", [word(2), word(27), SECP256K1_X, word(1)].concat()),
        call(0x02, "sha256", vec![1; 200]),
        call(0x03, "ripemd160", vec![1; 200]),
        call(0x04, "identity", vec![1; 200]),
        call(0x05, "modexp, odd", modexp(0xfd)),
        call(0x05, "modexp, even", modexp(0xfe)),
        call(0x06, "bn254 add", [word(1), word(2), word(1), word(2)].concat()),
        call(0x07, "bn254 mul", [word(1), word(2), [0x2a; 32]].concat()),
        call(
            0x08,
            "bn254 pairing",
            [&word(1)[..], &word(2), &BN254_G2, &word(1), &BN254_MINUS_TWO, &BN254_G2].concat(),
        ),
        call(0x09, "blake2f", [&12_u32.to_be_bytes()[..], &[1; 64], &[2; 128], &[0; 16], &[1]].concat()),
        call(0x0a, "point evaluation", [&KZG_TAU_HASH[..], &word(7), &word(7), &KZG_TAU, &KZG_ONE].concat()),
        call(0x0b, "bls12 g1 add", [&g1[..], &g1].concat()),
        call(0x0c, "bls12 g1 msm", [&g1[..], &word(2), &g1, &word(3)].concat()),
        call(0x0d, "bls12 g2 add", [&g2[..], &g2].concat()),
        call(0x0e, "bls12 g2 msm", [&g2[..], &word(2), &g2, &word(3)].concat()),
        call(0x0f, "bls12 pairing", [&g1[..], &g2, &bls_g1(&BLS_MINUS_Y), &g2].concat()),
        call(0x10, "bls12 map fp to g1", padded(&BLS_X)),
        call(0x11, "bls12 map fp2 to g2", [padded(&BLS_X), padded(&BLS_Y)].concat()),
        call(0x100, "p256verify", [&P256_HASH[..], &P256[..32], &word(1), &P256].concat()),
    ]
}

fn word(number: u8) -> [u8; 32] {
    B256::with_last_byte(number).0
}

/// 3 to a power of 32 bytes, modulo a number of 32 bytes that ends in `last`: odd and even moduli
/// are computed in different ways.
fn modexp(last: u8) -> Vec<u8> {
    let mut modulus = [0xab; 32];
    modulus[31] = last;
    [word(32), word(32), word(32), word(3), [0xcd; 32], modulus].concat()
}

/// A field element of BLS12-381 as EIP-2537 encodes it.
fn padded(element: &[u8; 48]) -> Vec<u8> {
    [&[0; 16][..], element].concat()
}

fn bls_g1(y: &[u8; 48]) -> Vec<u8> {
    [padded(&BLS_X), padded(y)].concat()
}

fn bls_g2() -> Vec<u8> {
    BLS_G2.iter().flat_map(padded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::precompile::PrecompileOutput;
    use std::collections::BTreeSet;

    fn run(call: &Call) -> PrecompileOutput {
        let precompile = Precompiles::latest().get(&call.address).expect("a precompile");
        precompile.execute(&call.input, GAS, 0).unwrap_or_else(|error| panic!("{}: {error:?}", call.name))
    }

    #[test]
    fn every_precompile_that_revm_knows_is_called() {
        let known: BTreeSet<Address> = Precompiles::latest().addresses().copied().collect();
        let called: BTreeSet<Address> = calls().iter().map(|call| call.address).collect();
        assert_eq!(
            called, known,
            "give a new precompile a call in `calls`, or it makes its tables inside a block"
        );
    }

    #[test]
    fn every_call_goes_all_the_way_to_a_result() {
        let one = word(1);
        for call in calls() {
            let output = run(&call);
            let bytes = output.bytes.as_ref();
            assert!(output.gas_used > 0 && !bytes.is_empty(), "{}: {output:?}", call.name);
            if ["bn254 pairing", "bls12 pairing", "p256verify"].contains(&call.name) {
                assert_eq!(bytes, one, "{}", call.name);
            }
            let somebody = bytes.iter().any(|byte| *byte != 0);
            assert!(somebody, "{}: nothing but zeros", call.name);
        }
    }
}
