//! The state before a block, as a shard sees it: a cache for the block, filled by batched requests
//! to the coordinator.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use revm::bytecode::Bytecode;
use revm::primitives::map::{HashMap, HashSet};
use revm::primitives::{Address, B256, KECCAK_EMPTY, U256};
use shard_heartbeat::ThreadBeat;
use shard_heartbeat::crossbeam::{Receiver, SendTimeoutError, Sender};
use tokio::sync::mpsc::error::TrySendError;

use super::job::{Job, StateReply};
use super::outbox::Outgoing;
use super::session::Counters;
use crate::deadline;
use crate::faults::Faults;
use crate::net::{Key, MAX_KEYS, Value, WireError, Work, wire};
use crate::process::Stopping;
use crate::sections::{EXECUTING, READING};
use crate::state::analysed;
use crate::telemetry::counts::Counts;
use crate::vm::{AccountInfo, StateView, TxOutcome, ViewError};

/// Codes retained from block to block. A hash identifies its code for ever, so they never go stale.
/// At 24 KiB each, this many take at most 96 MiB, and popular contracts are requested only once.
const CODES_KEPT: usize = 4_096;

/// The most codes in one request: at 24 KiB each, an answer stays below half of a message's limit.
const CODES_AT_ONCE: usize = 1_024;

/// Why the coordinator's state could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("state request {id} for {keys} keys was not answered within {within:?}")]
    Late { id: u64, keys: usize, within: Duration },
    #[error("the part's deadline passed while it waited for state")]
    PartLate,
    #[error("the part is no longer wanted")]
    Unwanted,
    #[error("the shard is stopping")]
    Stopping,
    #[error("the state request was not taken: {0}")]
    Queue(&'static str),
    #[error("the answer to a state request cannot be used: {0}")]
    Wire(#[from] WireError),
}

/// The keys answered so far.
#[derive(Default)]
struct Known {
    values: HashMap<Key, Value>,
    codes: HashMap<B256, Bytecode>,
}

impl Known {
    fn add(&mut self, key: Key, value: Value) {
        if let (Key::Code(hash), Value::Code(Some(code))) = (&key, &value) {
            self.codes.insert(*hash, analysed(code));
        } else {
            self.values.insert(key, value);
        }
    }

    fn knows(&self, key: &Key) -> bool {
        match key {
            Key::Code(hash) => *hash == KECCAK_EMPTY || self.codes.contains_key(hash),
            key => self.values.contains_key(key),
        }
    }
}

/// The known state, with what is still to be merged into it.
#[derive(Default)]
pub(super) struct Cache {
    of: Option<(u64, u64)>,
    known: Arc<Known>,
    /// Answers that came while helpers were reading `known`.
    late: Known,
    next_id: u64,
}

impl Cache {
    /// Retains what was read for the same run of the same block, since a second part of it needs
    /// that; drops the rest.
    pub(super) fn open(&mut self, tag: &wire::Tag) {
        let of = Some((tag.coordinator, tag.sequence));
        let another = self.of != of;
        self.of = of;
        self.gather();
        // A map that a lost helper still reads is left to it.
        let Some(known) = Arc::get_mut(&mut self.known) else {
            if another {
                self.known = Arc::default();
                self.late = Known::default();
            }
            return;
        };
        if another {
            known.values.clear();
        }
        if known.codes.len() > CODES_KEPT {
            known.codes.clear();
        }
    }

    /// Merges late answers into the rest, unless a helper still reads that.
    fn gather(&mut self) {
        if let Some(known) = Arc::get_mut(&mut self.known) {
            known.values.extend(self.late.values.drain());
            known.codes.extend(self.late.codes.drain());
        }
    }

    fn add(&mut self, key: Key, value: Value) {
        match Arc::get_mut(&mut self.known) {
            Some(known) => known.add(key, value),
            None => self.late.add(key, value),
        }
    }

    fn knows(&self, key: &Key) -> bool {
        self.known.knows(key) || self.late.knows(key)
    }

    fn value(&self, key: &Key) -> Option<&Value> {
        self.known.values.get(key).or_else(|| self.late.values.get(key))
    }

    fn code(&self, hash: &B256) -> Option<&Bytecode> {
        self.known.codes.get(hash).or_else(|| self.late.codes.get(hash))
    }
}

/// The connection to the coordinator and back, for one part.
pub(super) struct Line<'a> {
    pub(super) job: &'a Job,
    pub(super) state: &'a Receiver<StateReply>,
    pub(super) results: &'a Sender<Outgoing>,
    pub(super) stopping: &'a Stopping,
    pub(super) counters: &'a Counters,
    pub(super) beat: &'a ThreadBeat,
    pub(super) faults: &'a Faults,
    pub(super) counts: &'a Counts,
}

/// The state view on which a part is executed.
pub(super) struct RemoteState<'a> {
    line: Line<'a>,
    cache: RefCell<&'a mut Cache>,
    /// Whether unknown keys are guessed and recorded, instead of requested.
    guess: Cell<bool>,
    /// Keys that were guessed and not requested yet.
    guessed: RefCell<HashSet<Key>>,
    /// How many guesses were made so far.
    guesses: Cell<u64>,
    quickest: Cell<Duration>,
}

impl<'a> RemoteState<'a> {
    pub(super) fn new(line: Line<'a>, cache: &'a mut Cache) -> Self {
        Self {
            line,
            cache: RefCell::new(cache),
            guess: Cell::default(),
            guessed: RefCell::default(),
            guesses: Cell::default(),
            quickest: Cell::new(Duration::MAX),
        }
    }

    /// Requests everything that is known in advance to be needed, in as few requests as possible:
    /// one for accounts and listed slots, one for the code that those accounts turn out to have.
    pub(super) fn prefetch(&self, work: &Work) -> Result<(), AskError> {
        let mut keys: HashSet<Key> = HashSet::default();
        for (_, transaction) in &work.transactions {
            keys.insert(Key::Account(transaction.sender));
            keys.extend(transaction.to.map(Key::Account));
            for (address, slots) in &transaction.access_list {
                keys.insert(Key::Account(*address));
                keys.extend(slots.iter().map(|slot| Key::Slot(*address, (*slot).into())));
            }
        }
        self.learn(keys.iter().copied())?;
        self.learn_codes(&keys)
    }

    /// Requests the code of the accounts among `keys`.
    fn learn_codes(&self, keys: &HashSet<Key>) -> Result<(), AskError> {
        let codes: HashSet<Key> = {
            let cache = self.cache.borrow();
            let code = |key: &Key| match cache.value(key) {
                Some(Value::Account(Some(account))) => Some(Key::Code(account.code_hash)),
                _ => None,
            };
            keys.iter().filter_map(code).collect()
        };
        self.learn(codes.into_iter())
    }

    /// Runs `work` with guesses for unknown keys; returns whether anything was guessed.
    pub(super) fn guessing(&self, work: impl FnOnce()) -> bool {
        let before = self.guesses.get();
        self.guess.set(true);
        work();
        self.guess.set(false);
        self.guesses.get() != before
    }

    /// How many guesses were made so far; the difference shows which transactions needed some.
    pub(super) fn guesses(&self) -> u64 {
        self.guesses.get()
    }

    /// Requests everything that was guessed, and the code of the accounts among it; returns how
    /// many keys that were.
    pub(super) fn learn_guessed(&self) -> Result<usize, AskError> {
        let guessed = self.guessed.take();
        self.learn(guessed.iter().copied())?;
        self.learn_codes(&guessed)?;
        Ok(guessed.len())
    }

    /// The cost of requesting one more key alone: the recent average or, before there is one, the
    /// quickest answer of this part. The quickest of all would not do as a measure: most answers
    /// take several times as long, with the same two processors serving both ends.
    pub(super) fn single(&self) -> Duration {
        self.line.job.session.single().unwrap_or_else(|| self.quickest.get())
    }

    /// A snapshot of everything known now, for helpers to read. `guess`: helpers guess unknown
    /// keys, as this thread does.
    pub(super) fn snapshot(&self, guess: bool) -> Arc<Snapshot> {
        let mut cache = self.cache.borrow_mut();
        cache.gather();
        Arc::new(Snapshot { known: Arc::clone(&cache.known), guess })
    }

    /// Records what helpers guessed for these outcomes; returns the places of those with guesses.
    pub(super) fn note_guesses(&self, outcomes: &[TxOutcome]) -> Vec<usize> {
        let unknown = |key: Key| !self.cache.borrow().knows(&key) && self.guess_at(key);
        let guessed = |outcome: &TxOutcome| {
            let reads = &outcome.reads;
            let accounts = reads.accounts.iter().map(|(address, _)| Key::Account(*address));
            let slots = reads.storage.iter().map(|(address, slot, _)| Key::Slot(*address, *slot));
            let hashes = reads.block_hashes.iter().map(|(number, _)| Key::BlockHash(*number));
            // `count`, not `any`: every guess must be recorded, not only the first.
            accounts.chain(slots).chain(hashes).filter(|key| unknown(*key)).count() > 0
        };
        outcomes.iter().enumerate().filter(|(_, outcome)| guessed(outcome)).map(|(place, _)| place).collect()
    }

    fn guess_at(&self, key: Key) -> bool {
        if self.guess.get() {
            self.guessed.borrow_mut().insert(key);
            self.guesses.set(self.guesses.get() + 1);
        }
        self.guess.get()
    }

    /// Requests those of `keys` that are not known yet.
    fn learn(&self, keys: impl Iterator<Item = Key>) -> Result<(), AskError> {
        let unknown: Vec<Key> = {
            let cache = self.cache.borrow();
            keys.filter(|key| !cache.knows(key)).collect()
        };
        let codes = unknown.iter().any(|key| matches!(key, Key::Code(_)));
        for batch in unknown.chunks(if codes { CODES_AT_ONCE } else { MAX_KEYS }) {
            let values = self.ask(batch)?;
            let mut cache = self.cache.borrow_mut();
            for (key, value) in batch.iter().zip(values) {
                let value = Value::answering(key, value)?;
                cache.add(*key, value);
            }
        }
        Ok(())
    }

    /// Sends one request and waits for its answer, in a section of its own.
    fn ask(&self, keys: &[Key]) -> Result<Vec<wire::StateValue>, AskError> {
        self.line.beat.enter(READING);
        let answer = self.answer_to(keys);
        self.line.beat.enter(EXECUTING);
        answer
    }

    fn answer_to(&self, keys: &[Key]) -> Result<Vec<wire::StateValue>, AskError> {
        let job = self.line.job;
        let id = self.next_id();
        let request = wire::StateRequest {
            tag: Some(job.tag),
            id,
            keys: keys.iter().map(wire::StateKey::from).collect(),
        };
        let message = wire::Up { message: Some(wire::up::Message::State(request)) };
        self.put(message)?;
        self.line.counts.state_requests.add(1);
        let asked = Instant::now();
        let until = asked + job.state_deadline;
        loop {
            let now = Instant::now();
            if self.line.stopping.begun() {
                return Err(AskError::Stopping);
            }
            if !job.session.wants(&job.tag) {
                return Err(AskError::Unwanted);
            }
            if now >= job.until {
                return Err(AskError::PartLate);
            }
            if now >= until {
                return Err(AskError::Late { id, keys: keys.len(), within: job.state_deadline });
            }
            let patience = until.min(job.until).saturating_duration_since(now).min(deadline::LOOK_ROUND);
            let Ok(reply) = self.line.state.recv_timeout(patience) else {
                // It is alive and its wait has an end, whatever keeps the coordinator from
                // answering: it may be stopped, or short of CPU time. A restart of this process
                // would change nothing (docs/adr/045).
                self.line.beat.progress();
                continue;
            };
            if reply.id != id || reply.tag != job.tag {
                Counters::count(&self.line.counters.stale);
                continue;
            }
            self.line.faults.answered_point();
            self.line.beat.progress();
            let took = asked.elapsed();
            self.quickest.set(self.quickest.get().min(took));
            if keys.len() == 1 {
                job.session.answered_single(took);
            }
            if reply.values.len() != keys.len() {
                let reason = format!("{} values for {} keys", reply.values.len(), keys.len());
                return Err(WireError::Mismatch(reason).into());
            }
            return Ok(reply.values);
        }
    }

    /// Hands a request to the network. There is only one at a time, so the stream has room for it;
    /// if it does not, the sending thread waits for room. Waking that thread for every request
    /// would only make each of them slower.
    fn put(&self, message: wire::Up) -> Result<(), AskError> {
        let session = &self.line.job.session;
        let Some(up) = session.up() else { return Err(AskError::Unwanted) };
        let message = match up.try_send(Ok(message)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(Ok(message))) => message,
            Err(_) => return Err(AskError::Unwanted),
        };
        let outgoing = Outgoing { session: Arc::clone(session), message };
        self.line.results.send_timeout(outgoing, deadline::HAND_OVER).map_err(|error| match error {
            SendTimeoutError::Timeout(_) => AskError::Queue("the queue to the network is full"),
            SendTimeoutError::Disconnected(_) => AskError::Queue("the sending thread has gone"),
        })
    }

    fn next_id(&self) -> u64 {
        let mut cache = self.cache.borrow_mut();
        cache.next_id += 1;
        cache.next_id
    }

    fn value(&self, key: Key) -> Result<Value, ViewError> {
        if let Some(value) = self.cache.borrow().value(&key) {
            return Ok(value.clone());
        }
        if self.guess_at(key) {
            return Ok(guess(&key));
        }
        self.learn(std::iter::once(key)).map_err(|error| ViewError::Unavailable(Box::new(error)))?;
        let value = self.cache.borrow().value(&key).cloned();
        value.ok_or_else(|| unusable(format!("{key:?} was not answered")))
    }
}

/// Guesses absent or zero, which is what most state is.
fn guess(key: &Key) -> Value {
    match key {
        Key::Account(_) => Value::Account(None),
        Key::Slot(..) => Value::Slot(U256::ZERO),
        Key::Code(_) => Value::Code(None),
        Key::BlockHash(_) => Value::BlockHash(Some(B256::ZERO)),
    }
}

/// The state that is known at one time. It makes no requests, so any thread may read it.
pub(super) struct Snapshot {
    known: Arc<Known>,
    guess: bool,
}

impl Snapshot {
    fn value(&self, key: Key) -> Result<Value, ViewError> {
        match self.known.values.get(&key) {
            Some(value) => Ok(value.clone()),
            None if self.guess => Ok(guess(&key)),
            None => Err(ViewError::NotAhead),
        }
    }
}

impl StateView for Snapshot {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        match self.value(Key::Account(address))? {
            Value::Account(account) => Ok(account),
            _ => Err(ViewError::NotAhead),
        }
    }

    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        match self.known.codes.get(&code_hash) {
            Some(code) => Ok(code.clone()),
            None if self.guess || code_hash == KECCAK_EMPTY => Ok(Bytecode::default()),
            None => Err(ViewError::NotAhead),
        }
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        match self.value(Key::Slot(address, slot))? {
            Value::Slot(value) => Ok(value),
            _ => Err(ViewError::NotAhead),
        }
    }

    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        match self.value(Key::BlockHash(number))? {
            Value::BlockHash(Some(hash)) => Ok(hash),
            _ => Err(ViewError::NotAhead),
        }
    }
}

fn unusable(reason: String) -> ViewError {
    ViewError::Unavailable(Box::new(AskError::Wire(WireError::Mismatch(reason))))
}

impl StateView for RemoteState<'_> {
    fn account(&self, address: Address) -> Result<Option<AccountInfo>, ViewError> {
        match self.value(Key::Account(address))? {
            Value::Account(account) => Ok(account),
            other => Err(unusable(format!("{other:?} is not an account"))),
        }
    }

    fn code(&self, code_hash: B256) -> Result<Bytecode, ViewError> {
        if code_hash == KECCAK_EMPTY {
            return Ok(Bytecode::default());
        }
        let known = |this: &Self| this.cache.borrow().code(&code_hash).cloned();
        if let Some(code) = known(self) {
            return Ok(code);
        }
        let key = Key::Code(code_hash);
        if self.cache.borrow().value(&key).is_none() {
            if self.guess_at(key) {
                return Ok(Bytecode::default());
            }
            self.learn(std::iter::once(key)).map_err(|error| ViewError::Unavailable(Box::new(error)))?;
        }
        known(self).ok_or(ViewError::UnknownCode(code_hash))
    }

    fn storage(&self, address: Address, slot: U256) -> Result<U256, ViewError> {
        match self.value(Key::Slot(address, slot))? {
            Value::Slot(value) => Ok(value),
            other => Err(unusable(format!("{other:?} is not a slot"))),
        }
    }

    fn block_hash(&self, number: u64) -> Result<B256, ViewError> {
        match self.value(Key::BlockHash(number))? {
            Value::BlockHash(Some(hash)) => Ok(hash),
            Value::BlockHash(None) => Err(ViewError::UnknownBlockHash(number)),
            other => Err(unusable(format!("{other:?} is not a block hash"))),
        }
    }
}
