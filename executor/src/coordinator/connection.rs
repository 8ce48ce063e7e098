//! The connection to one shard: opened, held, and reopened for as long as the coordinator runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::answers::Answers;
use crate::deadline;
use crate::net::{self, Credentials, STREAM_QUEUE, wire};
use crate::telemetry::counts::Counts;

/// How often to retry when the queue to the coordinating thread is full. It is full only while that
/// thread validates a block.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// The most quarantined blocks taken from one shard: what its segment has room for. Believing more
/// would withhold blocks from their shards.
const MOST_QUARANTINED: usize = shard_heartbeat::layout::MAX_QUARANTINE;

/// An event on a link. `session` numbers the link's connections, so that a late event of a broken
/// connection is not attributed to the next.
#[derive(Debug)]
pub(super) enum Event {
    /// A shard has connected.
    Joined {
        link: usize,
        session: u64,
        shard: String,
        incarnation: u64,
        /// Blocks that its watchdog withholds from it.
        quarantined: Vec<u64>,
        down: mpsc::Sender<wire::Down>,
    },
    /// The shard's connection has ended.
    Lost { link: usize, session: u64, reason: String },
    /// The shard could not be reached, or was reached and refuses this coordinator.
    Unreachable { link: usize, away: Away },
    /// The shard sent a message.
    Message { link: usize, session: u64, message: wire::up::Message },
}

/// Why a shard is not connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Away {
    /// The reason in words.
    pub(super) reason: String,
    /// Whether the shard is up and refuses: it is not just restarting; a person may have to act.
    pub(super) refuses: bool,
}

/// What every connection of this coordinator needs.
pub(super) struct ConnectionContext {
    /// The coordinator's incarnation.
    pub(super) coordinator: u64,
    pub(super) credentials: Credentials,
    pub(super) events: Sender<Event>,
    pub(super) answers: Answers,
    pub(super) counts: Arc<Counts>,
}

/// Maintains a link to the shard at `address` until nobody receives its events.
pub(super) async fn maintain(link: usize, address: String, context: ConnectionContext) {
    let ConnectionContext { events, answers, .. } = &context;
    let mut session = 0;
    let mut away_since = Instant::now();
    loop {
        match open(&address, &context).await {
            Err(away) => {
                if hand_over(events, Event::Unreachable { link, away }).await.is_err() {
                    return;
                }
            }
            Ok(opened) => {
                session += 1;
                let Opened { hello, down, mut up } = opened;
                // Not a full sender: `coord` ends the stream by dropping its own.
                let answering = down.downgrade();
                let wire::ShardHello { shard, incarnation, version: _, mut quarantined } = hello;
                quarantined.truncate(MOST_QUARANTINED);
                let joined = Event::Joined { link, session, shard, incarnation, quarantined, down };
                if hand_over(events, joined).await.is_err() {
                    return;
                }
                let asked = |request: &wire::StateRequest| {
                    let reply = answers.answer(link, request)?;
                    let message = wire::Down { message: Some(wire::down::Message::State(reply)) };
                    // A shard that does not read its answers runs into its deadline.
                    answering.upgrade().map(|down| drop(down.try_send(message)))
                };
                let reason = listen(&mut up, link, session, events, asked).await;
                if hand_over(events, Event::Lost { link, session, reason }).await.is_err() {
                    return;
                }
                away_since = Instant::now();
            }
        }
        let patience = away_since.elapsed() < deadline::RECONNECT_PATIENCE;
        tokio::time::sleep(if patience { deadline::RECONNECT } else { deadline::RECONNECT_SLOW }).await;
    }
}

struct Opened {
    hello: wire::ShardHello,
    down: mpsc::Sender<wire::Down>,
    up: Streaming<wire::Up>,
}

async fn open(address: &str, context: &ConnectionContext) -> Result<Opened, Away> {
    let ConnectionContext { coordinator, credentials, counts, .. } = context;
    let away = |reason: String| Away { reason, refuses: false };
    let refuses = |reason: String| Away { reason, refuses: true };
    let connected = net::connect(address, credentials, counts).await;
    let mut client =
        connected.map_err(|error| Away { refuses: error.is_refusal(), reason: error.to_string() })?;
    let (down, stream) = mpsc::channel(STREAM_QUEUE);
    let hello = wire::CoordinatorHello { incarnation: *coordinator, version: net::VERSION };
    // The queue is empty and this function holds its other end: this cannot fail.
    let _ = down.try_send(wire::Down { message: Some(wire::down::Message::Hello(hello)) });
    let greeting = async {
        let mut up = client.serve(credentials.call(ReceiverStream::new(stream))).await?.into_inner();
        let first = up.message().await?;
        Ok::<_, tonic::Status>((up, first))
    };
    let greeted = tokio::time::timeout(deadline::HELLO, greeting).await;
    let (up, first) = match greeted {
        Err(_) => return Err(away(format!("connected, but no hello within {:?}", deadline::HELLO))),
        Ok(Err(status)) => {
            return Err(Away { refuses: net::is_refusal(&status), reason: net::stream_end(&status) });
        }
        Ok(Ok(greeted)) => greeted,
    };
    match first {
        Some(wire::Up { message: Some(wire::up::Message::Hello(hello)) })
            if hello.version == net::VERSION =>
        {
            Ok(Opened { hello, down, up })
        }
        Some(wire::Up { message: Some(wire::up::Message::Hello(hello)) }) => {
            Err(refuses(format!("it speaks version {} of the protocol, not {}", hello.version, net::VERSION)))
        }
        _ => Err(refuses("it is not a shard of this kind".to_owned())),
    }
}

/// Forwards the shard's messages, except the state requests that `answered` handles; returns why
/// the stream ended.
async fn listen(
    up: &mut Streaming<wire::Up>,
    link: usize,
    session: u64,
    events: &Sender<Event>,
    answered: impl Fn(&wire::StateRequest) -> Option<()>,
) -> String {
    loop {
        match up.message().await {
            Ok(Some(wire::Up { message: Some(wire::up::Message::State(request)) }))
                if answered(&request).is_some() => {}
            Ok(Some(wire::Up { message: Some(message) })) => {
                if hand_over(events, Event::Message { link, session, message }).await.is_err() {
                    return "the coordinator does not take its messages".to_owned();
                }
            }
            Ok(Some(wire::Up { message: None })) => return "it sent a message of an unknown kind".to_owned(),
            Ok(None) => return "it closed the stream".to_owned(),
            Err(status) => return net::stream_end(&status),
        }
    }
}

/// The coordinating thread has ended.
struct NotTaken;

/// Waits for room as a socket would, so that a shard that floods slows down only itself.
async fn hand_over(events: &Sender<Event>, event: Event) -> Result<(), NotTaken> {
    let mut event = event;
    loop {
        event = match events.try_send(event) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(_)) => return Err(NotTaken),
            Err(TrySendError::Full(event)) => event,
        };
        tokio::time::sleep(FULL_PAUSE).await;
    }
}
