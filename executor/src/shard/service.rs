//! A shard's network side: sorts one coordinator's stream into the queues of the threads behind it.
//!
//! Nothing here waits for those threads: a full queue is reported to the coordinator, and is no
//! reason to stop reading.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shard_heartbeat::crossbeam::{Sender, TrySendError};
use shard_heartbeat::{ChannelBeat, Heartbeat, TraceContext};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::accept::Door;
use super::job::{Job, StateReply};
use super::places::Holder;
use super::session::{Counters, Session, Sessions};
use crate::deadline;
use crate::faults::Faults;
use crate::net::wire::shard_server::{Shard, ShardServer};
use crate::net::{self, Admission, MAX_MESSAGE, STREAM_QUEUE, Work, wire};
use crate::vm;

/// The longest that a coordinator may allow for a part or a request: a day, as on the command line.
/// This limit prevents overflow in calculations with a peer's numbers.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1_000;

/// The most finished blocks that one message may count: it comes with every block.
const MOST_FINISHED: u32 = 1_000;

#[derive(Clone)]
pub(super) struct Service {
    pub(super) id: u16,
    pub(super) sessions: Sessions,
    pub(super) commands: Sender<Job>,
    pub(super) state: Sender<StateReply>,
    pub(super) faults: Faults,
    pub(super) admission: Admission,
    /// Contains the blocks that the watchdog withholds from this shard.
    pub(super) heartbeat: Heartbeat,
    /// Counts the blocks that the coordinator has finished.
    pub(super) blocks: ChannelBeat,
}

/// The shard's health, reported by gRPC's standard service.
#[derive(Clone)]
pub(super) struct Health(HealthReporter);

impl Health {
    /// Sets the status of the shard as a whole and of its service by name.
    async fn set(&self, status: ServingStatus) {
        for name in ["", <ShardServer<Service> as NamedService>::NAME] {
            self.0.set_service_status(name, status).await;
        }
    }

    /// Marks the shard as not serving. The runtime does it as soon as it can.
    pub(super) fn not_serving(&self, runtime: &Runtime) {
        let health = self.clone();
        runtime.spawn(async move { health.set(ServingStatus::NotServing).await });
    }
}

/// Serves at `door` until `closed` turns true. The threads behind it must be ready, because it
/// announces that.
pub(super) fn serve(
    runtime: &Runtime,
    door: Door,
    service: Service,
    mut closed: watch::Receiver<bool>,
) -> (Health, JoinHandle<()>) {
    let (accepting, connections) = door.open();
    let service = ShardServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (reporter, answers) = tonic_health::server::health_reporter();
    let health = Health(reporter);
    let router = net::server().add_service(answers).add_service(service);
    let ready = health.clone();
    let task = runtime.spawn(async move {
        ready.set(ServingStatus::Serving).await;
        let end = async move {
            // An error means that the process is ending already.
            let _ = closed.wait_for(|closed| *closed).await;
        };
        let serving = router.serve_with_incoming_shutdown(connections, end);
        // Accepting ends with serving, which takes the connections.
        let (served, ()) = tokio::join!(serving, accepting);
        if let Err(error) = served {
            tracing::error!(error = net::innermost(&error), "the network side has ended");
        }
    });
    (health, task)
}

#[tonic::async_trait]
impl Shard for Service {
    type ServeStream = ReceiverStream<Result<wire::Up, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<wire::Down>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        self.admission.check(request.metadata())?;
        if let Some(reason) = self.sessions.refused() {
            return Err(Status::unavailable(reason.to_owned()));
        }
        let Some(connection) = request.extensions().get::<Holder>().cloned() else {
            return Err(Status::internal("a stream without a connection"));
        };
        let peer = Some(connection.peer());
        let mut down = request.into_inner();
        let hello = tokio::time::timeout(deadline::HELLO, down.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello in time"))??;
        let Some(wire::Down { message: Some(wire::down::Message::Hello(hello)) }) = hello else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        if hello.version != net::VERSION {
            let reason = format!("this shard speaks version {}, not {}", net::VERSION, hello.version);
            return Err(Status::failed_precondition(reason));
        }
        let (up, stream) = mpsc::channel(STREAM_QUEUE);
        let own = wire::ShardHello {
            shard: self.id.to_string(),
            incarnation: self.sessions.incarnation,
            version: net::VERSION,
            quarantined: self.heartbeat.quarantine().keys().to_vec(),
        };
        // The queue is empty and this function holds its other end: this cannot fail.
        let _ = up.try_send(Ok(wire::Up { message: Some(wire::up::Message::Hello(own)) }));
        let session = self.sessions.begin(hello.incarnation, peer, up)?;
        let Some(admitted) = connection.admit() else {
            let reason =
                "this connection waited too long for its coordinator and is being closed: connect again";
            self.sessions.ended(&session, reason);
            return Err(Status::unavailable(reason));
        };
        tracing::info!(?peer, coordinator = hello.incarnation, "coordinator connected");
        let service = self.clone();
        tokio::spawn(async move {
            service.listen(down, session).await;
            drop(admitted);
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl Service {
    /// Reads until the stream ends, for whatever reason. Keep-alive ends it if the coordinator
    /// vanished.
    async fn listen(self, mut down: Streaming<wire::Down>, session: Arc<Session>) {
        let reason = loop {
            let message = tokio::select! {
                message = down.message() => message,
                () = session.over() => break "the session was ended".to_owned(),
            };
            match message {
                Ok(Some(message)) => self.sort(message, &session),
                Ok(None) => break "the coordinator closed the stream".to_owned(),
                Err(status) => break net::stream_end(&status),
            }
        };
        tracing::info!(coordinator = session.coordinator, reason, "coordinator gone");
        self.sessions.ended(&session, &reason);
    }

    fn sort(&self, message: wire::Down, session: &Arc<Session>) {
        use wire::down::Message;
        self.faults.network_point();
        match message.message {
            Some(Message::Run(run)) => self.run(&run, session),
            Some(Message::State(reply)) => self.state(reply, session),
            Some(Message::Cancel(cancel)) => {
                session.finish(cancel.sequence);
                self.count_blocks(cancel.finished_blocks);
            }
            Some(Message::Hello(_)) | None => self.malformed("unexpected message"),
        }
    }

    /// Publishes how many blocks the coordinator has finished with this shard, or without it for
    /// its silence: a watchdog's witness that there is work. They are received as soon as they are
    /// sent, so that none ever waits.
    fn count_blocks(&self, finished: u32) {
        for _ in 0..finished.min(MOST_FINISHED) {
            self.blocks.received();
            self.blocks.sent();
        }
    }

    fn run(&self, run: &wire::RunPart, session: &Arc<Session>) {
        let Some(tag) = run.tag else { return self.malformed("a part without a tag") };
        if !session.wants(&tag) {
            return self.stale("part");
        }
        let work: Work = match vm::decode(&run.work) {
            Ok(work) => work,
            Err(error) => {
                self.malformed("a part that cannot be read");
                return refuse(session, tag, wire::part_error::Reason::Malformed, &error.to_string());
            }
        };
        let job = Job {
            tag,
            session: Arc::clone(session),
            until: Instant::now() + Duration::from_millis(run.part_deadline_ms.min(LONGEST_MS)),
            state_deadline: Duration::from_millis(run.state_deadline_ms.min(LONGEST_MS)),
            trace: trace(&run.trace),
            work: Arc::new(work),
        };
        if let Err(error) = self.commands.try_send(job) {
            let why = match error {
                TrySendError::Full(_) => "commands: the queue is full",
                TrySendError::Disconnected(_) => "commands: nobody receives from the queue any more",
            };
            refuse(session, tag, wire::part_error::Reason::Busy, why);
        }
    }

    fn state(&self, reply: wire::StateReply, session: &Arc<Session>) {
        let Some(tag) = reply.tag else { return self.malformed("a state reply without a tag") };
        if !session.wants(&tag) {
            return self.stale("state reply");
        }
        // A full queue means that earlier answers came too late and nobody takes them; this one's
        // request ends by its deadline.
        if self.state.try_send(StateReply { tag, id: reply.id, values: reply.values }).is_err() {
            self.stale("state reply");
        }
    }

    fn stale(&self, what: &str) {
        if Counters::count(&self.sessions.counters.stale) == 0 {
            tracing::info!(what, "a stale message was discarded; further ones are only counted");
        }
    }

    fn malformed(&self, what: &str) {
        if Counters::count(&self.sessions.counters.malformed) == 0 {
            tracing::warn!(what, "a message could not be understood; further ones are only counted");
        }
    }
}

/// Notifies the coordinator at once that a part will not be executed here.
fn refuse(session: &Session, tag: wire::Tag, reason: wire::part_error::Reason, detail: &str) {
    let error = wire::PartError { tag: Some(tag), reason: reason.into(), detail: detail.to_owned() };
    if let Some(up) = session.up() {
        // If even this message does not arrive, the part's deadline ends the wait.
        let _ = up.try_send(Ok(wire::Up { message: Some(wire::up::Message::Error(error)) }));
    }
}

fn trace(bytes: &[u8]) -> TraceContext {
    let mut trace = TraceContext::default();
    if let (Some(id), Some(span), Some(flags)) = (bytes.get(..16), bytes.get(16..24), bytes.get(24)) {
        trace.trace_id.copy_from_slice(id);
        trace.span_id.copy_from_slice(span);
        trace.flags = *flags;
    }
    trace
}
