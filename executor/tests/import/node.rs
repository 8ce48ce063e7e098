//! A stand-in for an archive node: JSON-RPC over HTTP/1.1, one request per connection, and trouble
//! where a test orders it.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use revm::primitives::{Address, U256};
use serde_json::{Value, json};
use shard_executor::vm::StateView;

use crate::chain::Chain;

/// What the node may do instead of answering.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// An HTTP status.
    Status(u16),
    /// It accepts the request and sends nothing.
    Silence,
    /// It sends half of the answer and closes the connection.
    Cut,
    /// It begins an answer that never ends.
    Endless,
    /// It sends another answer.
    Instead(Value),
    /// It refuses with this error code and message.
    Refusal(i64, &'static str),
}

/// The calls that the node supports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Skills {
    /// `debug_executionWitness`: in geth's form, or that of other clients; `None`: the call is not
    /// supported.
    pub(crate) witness: Option<bool>,
    /// `debug_traceBlockByNumber`; true: the option `includeEmpty` is supported, too.
    pub(crate) traces: Option<bool>,
}

pub(crate) struct Node {
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    chain: Chain,
    skills: Skills,
    /// Trouble for calls of this name, each used once and in order.
    trouble: Mutex<VecDeque<(&'static str, Trouble)>>,
    calls: Mutex<Vec<String>>,
}

impl Node {
    pub(crate) fn start(chain: Chain, skills: Skills) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a-secret-key", listener.local_addr().unwrap());
        let state = Arc::new(State { chain, skills, trouble: Mutex::default(), calls: Mutex::default() });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let serving = Arc::clone(&serving);
                std::thread::spawn(move || serve(&serving, connection.unwrap()));
            }
        });
        Self { url, state }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.state.chain
    }

    /// Orders this trouble for the next calls of this name.
    pub(crate) fn trouble(&self, method: &'static str, trouble: &[Trouble]) {
        self.state.trouble.lock().unwrap().extend(trouble.iter().map(|one| (method, one.clone())));
    }

    /// How often this call was made.
    pub(crate) fn calls(&self, method: &str) -> usize {
        self.state.calls.lock().unwrap().iter().filter(|call| *call == method).count()
    }
}

fn serve(state: &State, connection: TcpStream) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let method = question["method"].as_str().unwrap().to_owned();
    state.calls.lock().unwrap().push(method.clone());
    let trouble = {
        let mut all = state.trouble.lock().unwrap();
        let next = all.iter().position(|(of, _)| *of == method);
        next.and_then(|at| all.remove(at)).map(|(_, trouble)| trouble)
    };
    let answer =
        |result: Value| json!({"jsonrpc": "2.0", "id": question["id"], "result": result}).to_string();
    let refuse = |code: i64, words: &str| {
        json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": code, "message": words}}).to_string()
    };
    let mut out = connection;
    match trouble {
        None => match state.answer(&method, &question["params"]) {
            Some(result) => send(&mut out, 200, &answer(result)),
            None => send(&mut out, 200, &refuse(-32601, "the method does not exist/is not available")),
        },
        Some(Trouble::Status(status)) => send(&mut out, status, "no"),
        Some(Trouble::Silence) => std::thread::sleep(Duration::from_secs(30)),
        Some(Trouble::Cut) => {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"jsonrpc\":");
        }
        Some(Trouble::Endless) => {
            let _ = out.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while out.write_all(b"1\r\n \r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Some(Trouble::Instead(result)) => send(&mut out, 200, &answer(result)),
        Some(Trouble::Refusal(code, words)) => send(&mut out, 200, &refuse(code, words)),
    }
}

fn send(out: &mut TcpStream, status: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = out.write_all(head.as_bytes()).and_then(|()| out.write_all(body.as_bytes()));
}

impl State {
    fn answer(&self, method: &str, parameters: &Value) -> Option<Value> {
        let chain = &self.chain;
        let number = |at: usize| {
            u64::from_str_radix(parameters[at].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
        };
        let account = |at: usize| {
            let address: Address = parameters[0].as_str().unwrap().parse().unwrap();
            chain.state(number(at)).account(&address).unwrap_or_default()
        };
        Some(match method {
            "eth_chainId" => json!("0x539"),
            "eth_getBlockByNumber" => chain.header(number(0), parameters[1].as_bool().unwrap()),
            "eth_getBlockReceipts" => chain.receipts(number(0)),
            "debug_executionWitness" => chain.witness(number(0), self.skills.witness?),
            "debug_traceBlockByNumber" => {
                let wanted = parameters[1]["tracerConfig"]["includeEmpty"] == true;
                chain.traces(number(0), self.skills.traces? && wanted)
            }
            "eth_getBalance" => json!(account(1).balance),
            "eth_getTransactionCount" => json!(format!("{:#x}", account(1).nonce)),
            "eth_getCode" => {
                let code = chain.state(number(1)).code(account(1).code_hash).unwrap();
                json!(code.original_bytes())
            }
            "eth_getStorageAt" => {
                let address: Address = parameters[0].as_str().unwrap().parse().unwrap();
                let slot: U256 = parameters[1].as_str().unwrap().parse().unwrap();
                json!(format!("{:#066x}", chain.state(number(2)).slot(&address, &slot)))
            }
            _ => return None,
        })
    }
}
