// Compiles every *.sol of this folder to a *.hex beside it: the code as it stands on the chain, not
// the one that deploys it.
//
//     node compile.js SOLJSON [--check]
//
// SOLJSON is soljson.js of the npm package `solc`; tests/tools puts it at
// target/tools/solc/soljson.js. With --check nothing is written, and the exit code is 1 if what is
// there is not what comes out.
"use strict";
const fs = require("fs");
const path = require("path");

const [soljson, mode] = process.argv.slice(2);
const compiler = require(path.resolve(soljson));
const compile = compiler.cwrap("solidity_compile", "string", ["string", "number", "number"]);
const names = fs.readdirSync(__dirname).filter((name) => name.endsWith(".sol")).sort();
const sources = Object.fromEntries(
  names.map((name) => [name, { content: fs.readFileSync(path.join(__dirname, name), "utf8") }]),
);
const answer = JSON.parse(
  compile(
    JSON.stringify({
      language: "Solidity",
      sources,
      settings: {
        evmVersion: "shanghai",
        optimizer: { enabled: true, runs: 200 },
        // Without a hash of the source at its end, so that a comment changes nothing.
        metadata: { appendCBOR: false, bytecodeHash: "none" },
        outputSelection: { "*": { "*": ["evm.deployedBytecode.object"] } },
      },
    }),
    0,
    0,
  ),
);
let failed = false;
const say = (text) => {
  console.error(text);
  failed = true;
};
for (const error of answer.errors || []) say(error.formattedMessage);
for (const name of names) {
  const contract = path.parse(name).name;
  const compiled = answer.contracts?.[name]?.[contract];
  if (!compiled) {
    say(`${name}: no contract ${contract}`);
    continue;
  }
  const hex = `${compiled.evm.deployedBytecode.object}\n`;
  const file = path.join(__dirname, `${contract}.hex`);
  if (mode !== "--check") fs.writeFileSync(file, hex);
  else if (!fs.existsSync(file) || fs.readFileSync(file, "utf8") !== hex)
    say(`${contract}.hex is not what ${name} compiles to: run node executor/contracts/compile.js SOLJSON`);
}
process.exitCode = failed ? 1 : 0;
