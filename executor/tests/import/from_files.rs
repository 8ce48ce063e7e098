//! Imports from saved answers.

use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use revm::primitives::B256;
use serde_json::{Value, json};
use shard_executor::generate::Kind;

use crate::chain::{Chain, comes_to_the_state_of, file, import, reports, said};

struct Saved {
    folder: tempfile::TempDir,
    files: Vec<PathBuf>,
}

impl Saved {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), files: Vec::new() }
    }

    fn with(mut self, name: &str, value: &Value) -> Self {
        let path = self.folder.path().join(name);
        let mut text = serde_json::to_vec(value).unwrap();
        if name.ends_with(".gz") {
            let mut out = GzEncoder::new(Vec::new(), Compression::default());
            out.write_all(&text).unwrap();
            text = out.finish().unwrap();
        }
        std::fs::write(&path, text).unwrap();
        self.files.push(path);
        self
    }

    fn import(&self, out: &Path, chain: &Chain) -> std::process::Output {
        let id = chain.id().to_string();
        let mut arguments = vec!["--chain", &id, "--from"];
        arguments.extend(self.files.iter().map(|path| path.to_str().unwrap()));
        import(out, &arguments)
    }
}

fn enveloped(result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "result": result})
}

#[test]
fn a_block_and_its_witness_in_either_shape_are_all_it_takes() {
    let chain = Chain::new(Kind::Mixed, 2);
    for as_geth in [true, false] {
        let out = tempfile::tempdir().unwrap();
        let saved = Saved::new()
            .with("w2.json.gz", &enveloped(&chain.witness(2, as_geth)))
            .with("r1.json", &chain.receipts(1))
            .with("b2.json", &chain.header(2, true))
            .with(
                "batch.json",
                &json!([enveloped(&chain.header(1, true)), enveloped(&chain.witness(1, as_geth))]),
            );
        let output = saved.import(out.path(), &chain);
        assert!(output.status.success(), "{}", said(&output));
        let reports = reports(out.path());
        assert_eq!(reports.len(), 2);
        assert!(reports.iter().all(|report| report.verified && report.state_root.is_some()));
        comes_to_the_state_of(&chain, out.path());
    }
}

/// The traces show neither the accounts paid by withdrawals nor the contracts the protocol calls.
#[test]
fn what_traces_do_not_show_is_said_with_the_way_to_get_it_and_can_be_given() {
    let chain = Chain::new(Kind::Transfers, 2);
    let saved = Saved::new()
        .with("block.json", &enveloped(&chain.header(2, true)))
        .with("traces.json", &enveloped(&chain.traces(2, true)));
    let out = tempfile::tempdir().unwrap();
    let output = saved.import(out.path(), &chain);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let told = said(&output).to_lowercase();
    for wanted in [
        "0x000f3df6d732807ef1319fb7b8bb8522d0beac02",
        "0x3 of 0x00000961ef480eb55e80d19ad83579a64c007002",
        "eth_getstorageat at block 0x1",
        "eth_getcode",
        "--rpc",
    ] {
        assert!(told.contains(wanted), "{wanted} in {told}");
    }
    // The accounts in the block's file, which `import` made from a witness.
    let by_witness = tempfile::tempdir().unwrap();
    let whole = Saved::new().with("b.json", &chain.header(2, true)).with("w.json", &chain.witness(2, false));
    assert!(whole.import(by_witness.path(), &chain).status.success());
    let made = shard_executor::block::Block::load(by_witness.path().join("00000002.json.gz")).unwrap();
    let given = saved.with("accounts.json", &file(&made)["pre"]);
    let output = given.import(out.path(), &chain);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(reports(out.path())[0].digest, reports(by_witness.path())[0].digest);
}

#[test]
fn answers_of_no_use_are_refused_by_file_and_reason() {
    let chain = Chain::new(Kind::Transfers, 2);
    let refused = |saved: &Saved, because: &str| {
        let out = tempfile::tempdir().unwrap();
        let output = saved.import(out.path(), &chain);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let last = saved.files.last().unwrap().to_str().unwrap().to_owned();
        assert!(said(&output).contains(because), "expected `{because}` in: {}", said(&output));
        assert!(said(&output).contains(&last), "{}", said(&output));
        assert_eq!(said(&output).trim().lines().count(), 1, "{}", said(&output));
    };
    let block = chain.header(2, true);
    let with = |name: &str, value: &Value| Saved::new().with("block.json", &block).with(name, value);
    refused(&with("x.json", &json!({"hello": 1})), "the answer to none of");
    refused(
        &with(
            "x.json",
            &json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "missing trie node"}}),
        ),
        "missing trie node",
    );
    refused(&with("x.json", &json!({"jsonrpc": "2.0", "id": 1, "result": null})), "null");
    refused(&with("w.json", &chain.witness(1, true)), "of none of the blocks");
    refused(&with("r.json", &chain.receipts(1)), "of none of the blocks");
    refused(&with("b.json", &block), "in another of the files too");
    refused(&Saved::new().with("w.json", &chain.witness(2, true)), "no file among these has a block");
    let mut lying = chain.witness(2, true);
    lying["headers"][0]["hash"] = json!(B256::repeat_byte(9));
    let output = with("w.json", &lying).import(tempfile::tempdir().unwrap().path(), &chain);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("has the hash"), "{}", said(&output));
    let mut short = chain.traces(2, true);
    short.as_array_mut().unwrap().pop();
    let output = with("t.json", &short).import(tempfile::tempdir().unwrap().path(), &chain);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("11 traces for the 12 transactions"), "{}", said(&output));
}

#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let (out, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let pipe = pipe.to_str().unwrap();
    for (arguments, because) in [
        (&["--from", pipe][..], "it is a pipe, not a regular file"),
        (&["--from", "/dev/zero"], "it is a device, not a regular file"),
        (&["--from", "block.json", "--chain", "/dev/zero"], "it is a device, not a regular file"),
    ] {
        let output = import(out.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(because), "{}", said(&output));
    }
}
