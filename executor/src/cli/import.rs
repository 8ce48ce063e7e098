//! `import`: makes block files from an archive node's answers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::{Value, json};
use shard_executor::block::MAX_BLOCK_BYTES;
use shard_executor::import::{
    Client, ImportError, Imported, Limits, Node, Parts, RpcError, finished, import, read_saved, write,
};
use shard_executor::progress::Progress;
use shard_executor::regular;
use shard_executor::validate::StateRoot;

use super::exit::{BAD_INPUT, NOT_EXECUTED, VERIFIED, WRONG_BLOCK, fail};

/// Beyond this a range is a mistake: a million blocks are half a year of mainnet.
const MOST_BLOCKS: u64 = 1_000_000;
const MAINNET: u64 = 1;

/// Create block files from the answers of an archive node.
///
/// With --rpc it queries a node: eth_getBlockByNumber, eth_getBlockReceipts, debug_executionWitness
/// or else debug_traceBlockByNumber with prestateTracer, and any single accounts, slots and hashes
/// that those leave out. With --from it reads saved answers, for instance those saved by curl.
///
/// Each block is executed before its file is written, and a file is written only if it verifies.
/// Existing files are left as they are, so that an interrupted run continues where it stopped.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whence").required(true).args(["rpc", "from"])))]
pub(crate) struct Args {
    /// The folder to write the files to; created if it does not exist
    #[arg(long, env = "SHARD_EXECUTOR_OUT", value_name = "DIR")]
    out: PathBuf,
    /// The node to query, http:// or https://; it must have the state before each of the requested
    /// blocks
    #[arg(long, env = "SHARD_EXECUTOR_RPC", value_name = "URL", requires = "block", hide_env_values = true)]
    rpc: Option<String>,
    /// One block, or a range with both ends included
    #[arg(long, value_name = "N[..M]", conflicts_with = "from")]
    block: Option<Range>,
    /// Files with saved answers about one or more blocks, in any order: each is recognised by its
    /// shape
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Source of the state before a block: auto takes the witness or else traces; the others use
    /// the witness, traces or single queries only
    #[arg(long, value_name = "ANSWER", default_value = "auto", value_parser = ways())]
    state: Way,
    /// The key `chain` of the files, for chains whose id is unknown here: JSON, or a file that
    /// contains it
    #[arg(long, value_name = "JSON|FILE")]
    chain: Option<String>,
    /// A header to send with every request, for instance `Authorization: Bearer …`
    #[arg(long, env = "SHARD_EXECUTOR_RPC_HEADER", value_name = "NAME: VALUE", hide_env_values = true)]
    header: Vec<String>,
    /// Maximum number of requests per second
    #[arg(long, value_name = "R", default_value_t = 20.0, value_parser = rate)]
    rate: f64,
    /// How many times a request is retried after HTTP 429 or 5xx, a timeout or a broken connection,
    /// with growing pauses
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: u32,
    /// How long one request may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
    /// How long one block may take, with all its requests, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    block_timeout: u64,
}

/// Where the state before a block comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Auto,
    Witness,
    Traces,
    Single,
}

impl Way {
    const NAMES: [(&str, Self); 4] = [
        ("auto", Self::Auto),
        ("witness", Self::Witness),
        ("traces", Self::Traces),
        ("single", Self::Single),
    ];
}

fn ways() -> impl TypedValueParser<Value = Way> {
    PossibleValuesParser::new(Way::NAMES.map(|(name, _)| name)).try_map(|name| {
        Way::NAMES.iter().find(|(known, _)| *known == name).map(|(_, way)| *way).ok_or("not one of them")
    })
}

/// Blocks, both ends included.
#[derive(Clone, Copy, Debug)]
struct Range(u64, u64);

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let parsed = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            parsed.map_err(|_| format!("`{text}` is not a block's number"))
        };
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
        if first == 0 {
            return Err("block 0 is the genesis, which executes nothing".into());
        }
        if last < first {
            return Err(format!("{last} comes before {first}"));
        }
        if last - first >= MOST_BLOCKS {
            return Err(format!("these are more than {MOST_BLOCKS} blocks"));
        }
        Ok(Self(first, last))
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.01..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("not a number from 0.01 to 100000".into()),
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let chain = match args.chain.as_deref().map(chain).transpose() {
        Ok(chain) => chain,
        Err(reason) => return fail(BAD_INPUT, &format!("--chain: {reason}")),
    };
    if let Err(error) = std::fs::create_dir_all(&args.out) {
        let reason =
            format!("{}: cannot be created: {error}. Choose another folder with --out.", args.out.display());
        return fail(BAD_INPUT, &reason);
    }
    match (&args.rpc, args.block) {
        (Some(url), Some(range)) => from_node(args, url, range, chain.as_ref()),
        _ => from_files(args, chain.as_ref()),
    }
}

fn chain(text: &str) -> Result<Value, String> {
    let text = if text.trim_start().starts_with('{') {
        text.to_owned()
    } else {
        let unreadable =
            |reason: String| format!("{text}: {reason}. Name a file with the object, or give the object.");
        let bytes =
            regular::read(Path::new(text), MAX_BLOCK_BYTES).map_err(|error| unreadable(error.to_string()))?;
        String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| {
        format!("not JSON ({error}). It is an object like {{\"id\": 1337, \"fork\": \"prague\"}}.")
    })?;
    Ok(value.get("chain").cloned().unwrap_or(value))
}

/// What came of a run so far.
struct Tally {
    progress: Option<Progress>,
    written: u64,
    kept: u64,
    wrong: u64,
    unproven: u64,
}

impl Tally {
    fn new(blocks: u64) -> Self {
        Self { progress: Progress::on_terminal(Some(blocks)), written: 0, kept: 0, wrong: 0, unproven: 0 }
    }

    fn say(&self, line: &str) {
        match &self.progress {
            Some(progress) => progress.say(line),
            None => {
                // The reader may have gone.
                let _ = std::io::Write::write_fmt(&mut std::io::stdout().lock(), format_args!("{line}\n"));
            }
        }
    }

    fn advance(&self, number: u64) {
        if let Some(progress) = &self.progress {
            progress.advance(format!("block {number}"));
        }
    }

    fn keep(&mut self, number: u64, path: &Path) {
        self.kept += 1;
        self.advance(number);
        if self.progress.is_none() {
            self.say(&format!("block {number:>9}  kept      {}", path.display()));
        }
    }

    /// Writes the file of a block and says so.
    fn write(&mut self, folder: &Path, imported: &Imported) -> Result<(), ExitCode> {
        let path = write(folder, imported.number, &imported.text).map_err(|error| {
            fail(
                BAD_INPUT,
                &format!(
                    "{}: cannot be written: {error}. Make room or choose another --out.",
                    folder.display()
                ),
            )
        })?;
        self.written += 1;
        let state = match imported.result.state_root {
            StateRoot::Checked(_) => String::new(),
            StateRoot::NotChecked(reason) => {
                self.unproven += 1;
                format!(", state not checked ({reason})")
            }
        };
        self.advance(imported.number);
        if self.progress.is_none() {
            let result = &imported.result;
            self.say(&format!(
                "block {:>9}  verified{state}  {} txs  {} gas  {}",
                imported.number,
                result.transactions,
                result.gas_used,
                path.display()
            ));
        }
        Ok(())
    }

    fn end(&self, folder: &Path) -> ExitCode {
        if let Some(progress) = &self.progress {
            progress.end();
        }
        let unproven = match self.unproven {
            0 => String::new(),
            n => format!(" (the state of {n} not checked)"),
        };
        self.say(&format!(
            "{} blocks written{unproven}, {} kept, {} wrong, in {}",
            self.written,
            self.kept,
            self.wrong,
            folder.display()
        ));
        ExitCode::from(if self.wrong > 0 { WRONG_BLOCK } else { VERIFIED })
    }

    /// Says why a run ends here, and how far it came.
    fn stop(&self, error: &ImportError) -> ExitCode {
        if let Some(progress) = &self.progress {
            progress.end();
        }
        let code = match error {
            ImportError::Node(RpcError::NoAnswer { .. } | RpcError::TooLong { .. }) => NOT_EXECUTED,
            ImportError::Execution(_) => NOT_EXECUTED,
            _ => BAD_INPUT,
        };
        let so_far = format!("{} blocks written, {} kept before that.", self.written, self.kept);
        fail(code, &format!("{} {so_far}", sentence(&error.to_string())))
    }

    /// A block that is wrong does not keep others from being imported.
    fn wrong(&mut self, number: u64, error: &ImportError) {
        self.wrong += 1;
        self.advance(number);
        shard_executor::logs::tell(&format!("shard-executor: {}", sentence(&error.to_string())));
    }
}

fn sentence(text: &str) -> String {
    if text.ends_with(['.', '!', '?']) { text.to_owned() } else { format!("{text}.") }
}

fn from_files(args: &Args, chain: Option<&Value>) -> ExitCode {
    let all = match read_saved(&args.from, chain) {
        Ok(all) => all,
        Err(error) => return fail(BAD_INPUT, &error),
    };
    let mut tally = Tally::new(all.len() as u64);
    for parts in all {
        match import(&parts, None) {
            Ok(imported) => {
                if let Err(code) = tally.write(&args.out, &imported) {
                    return code;
                }
            }
            Err(error @ ImportError::Wrong { number, .. }) => tally.wrong(number, &error),
            Err(error) => return tally.stop(&error),
        }
    }
    tally.end(&args.out)
}

fn from_node(args: &Args, url: &str, Range(first, last): Range, chain: Option<&Value>) -> ExitCode {
    let limits =
        Limits { rate: args.rate, timeout: Duration::from_secs(args.timeout), retries: args.retries };
    let node = match Client::new(url, &args.header, limits) {
        Ok(client) => Arc::new(Node::new(client)),
        Err(error) => return fail(BAD_INPUT, &error),
    };
    let mut tally = Tally::new(last - first + 1);
    let mut chain = chain.cloned();
    for number in first..=last {
        if finished(&args.out, number) {
            tally.keep(number, &shard_executor::import::path_of(&args.out, number));
            continue;
        }
        node.begin(Duration::from_secs(args.block_timeout));
        if chain.is_none() {
            match node.chain_id() {
                Ok(MAINNET) => {}
                Ok(id) => chain = Some(json!({"id": format!("{id:#x}")})),
                Err(error) => return tally.stop(&error.into()),
            }
        }
        match one(args.state, &node, number, chain.as_ref(), &tally) {
            Ok(imported) => {
                if let Err(code) = tally.write(&args.out, &imported) {
                    return code;
                }
            }
            Err(error @ ImportError::Wrong { .. }) => tally.wrong(number, &error),
            Err(error) => return tally.stop(&error),
        }
    }
    tally.end(&args.out)
}

/// One block from a node.
fn one(
    way: Way,
    node: &Arc<Node>,
    number: u64,
    chain: Option<&Value>,
    tally: &Tally,
) -> Result<Imported, ImportError> {
    let mut parts = Parts {
        from: PathBuf::from(format!("block {number}")),
        block: node.block(number)?,
        parent: Some(node.header(number - 1)?),
        receipts: node.receipts(number)?,
        chain: chain.cloned(),
        ..Parts::default()
    };
    if matches!(way, Way::Auto | Way::Witness) {
        let imported = node.witness(number).map_err(ImportError::from).and_then(|witness| {
            parts.witness = Some(witness);
            import(&parts, Some(node))
        });
        let may_go_on = match &imported {
            Err(ImportError::Node(RpcError::Refused { .. } | RpcError::Nonsense { .. })) => true,
            Err(ImportError::Witness { .. } | ImportError::Block(_)) => parts.witness.is_some(),
            _ => false,
        };
        match imported {
            Err(error) if may_go_on && way == Way::Auto => {
                tally.say(&format!("block {number:>9}  without a witness: {error}"));
                parts.witness = None;
            }
            imported => return imported,
        }
    }
    if matches!(way, Way::Auto | Way::Traces) {
        match node.traces(number) {
            Ok(traces) => parts.traces = Some(traces),
            Err(error @ RpcError::Refused { .. }) if way == Way::Auto => {
                tally.say(&format!("block {number:>9}  without traces, by single questions: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    import(&parts, Some(node))
}
