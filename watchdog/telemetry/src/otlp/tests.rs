//! Collectors in this process that answer by a script: no real one answers 400 or 413 on command.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::SystemTime;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;

use super::*;
use crate::span::Finished;

const PATIENCE: Duration = Duration::from_secs(60);
/// The largest request that the scripted collectors take.
const LIMIT: usize = 2_048;
/// When a collector that is busy asks to come back: later than anything here would by itself.
const ASKED: Duration = Duration::from_secs(2);

#[test]
fn the_resource_of_metrics_outlives_a_process_and_that_of_logs_and_spans_names_it() {
    let metrics = resource("a-service", "1.0.0", "7");
    assert_eq!(metrics.get(&Key::new("process.pid")), None);
    let others = of_this_process(&metrics);
    assert_eq!(others.get(&Key::new("process.pid")), Some(i64::from(std::process::id()).into()));
    assert_eq!(others.len(), metrics.len() + 1);
    assert!(metrics.iter().all(|(key, value)| others.get(key).as_ref() == Some(value)));
}

/// What a scripted collector has accepted, by the attribute `is` of each span, and how often it was
/// asked.
#[derive(Debug, Default)]
struct Seen {
    accepted: Vec<String>,
    asked: Vec<Instant>,
}

/// The behaviour of the scripted collectors over both protocols.
#[derive(Debug)]
enum Verdict {
    Accept,
    /// As if `n` of the items were rejected.
    AcceptWithout(i64),
    Invalid,
    TooLarge,
    /// Asks to come back after [`ASKED`].
    Busy,
}

/// The rules: a span `poison` makes a request invalid, a request beyond [`LIMIT`] is too large, one
/// with a span `old` is accepted without it, and the first one with a span `early` comes too early.
fn verdict(request: &ExportTraceServiceRequest, seen: &Mutex<Seen>) -> Verdict {
    let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans);
    let attributes = spans.flat_map(|span| &span.attributes).filter(|attribute| attribute.key == "is");
    let is: Vec<_> = attributes
        .map(|attribute| format!("{:?}", attribute.value.as_ref().and_then(|value| value.value.as_ref())))
        .collect();
    let has = |word: &str| is.iter().any(|one| one.contains(word));
    let mut seen = seen.lock().expect("whole");
    seen.asked.push(Instant::now());
    if request.encoded_len() > LIMIT {
        return Verdict::TooLarge;
    }
    if has("poison") {
        return Verdict::Invalid;
    }
    if has("early") && seen.asked.len() == 1 {
        return Verdict::Busy;
    }
    let old = is.iter().filter(|one| one.contains("old")).count();
    seen.accepted.extend(is);
    if old > 0 { Verdict::AcceptWithout(i64::try_from(old).expect("few")) } else { Verdict::Accept }
}

fn response(rejected: i64) -> ExportTraceServiceResponse {
    let error_message = "too old".to_owned();
    let partial = ExportTracePartialSuccess { rejected_spans: rejected, error_message };
    ExportTraceServiceResponse { partial_success: (rejected > 0).then_some(partial) }
}

/// A collector over HTTP. Its threads end with the test's process.
fn over_http(seen: &Arc<Mutex<Seen>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || serve(&stream, &seen));
        }
    });
    address
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, seen: &Mutex<Seen>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            (reader.read_line(&mut line).ok()? > 0).then_some(())?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&*body).expect("protobuf");
        let (head, body) = match verdict(&request, seen) {
            Verdict::Accept => ("200 OK".to_owned(), response(0).encode_to_vec()),
            Verdict::AcceptWithout(rejected) => ("200 OK".to_owned(), response(rejected).encode_to_vec()),
            Verdict::Invalid => ("400 Bad Request".to_owned(), Vec::new()),
            Verdict::TooLarge => ("413 Payload Too Large".to_owned(), Vec::new()),
            Verdict::Busy => {
                (format!("429 Too Many Requests\r\nRetry-After: {}", ASKED.as_secs()), Vec::new())
            }
        };
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
        (&*stream).write_all(&[head.as_bytes(), &body].concat()).ok()?;
    }
}

struct OverGrpc(Arc<Mutex<Seen>>);

#[tonic::async_trait]
impl TraceService for OverGrpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        match verdict(request.get_ref(), &self.0) {
            Verdict::Accept => Ok(tonic::Response::new(response(0))),
            Verdict::AcceptWithout(rejected) => Ok(tonic::Response::new(response(rejected))),
            Verdict::Invalid => Err(tonic::Status::invalid_argument("poison")),
            // In the words of the collector of OpenTelemetry, which is written in Go.
            Verdict::TooLarge => {
                Err(tonic::Status::resource_exhausted("grpc: received message larger than max (9 vs. 8)"))
            }
            Verdict::Busy => Err(<tonic::Status as tonic_types::StatusExt>::with_error_details(
                tonic::Code::ResourceExhausted,
                "quota",
                tonic_types::ErrorDetails::with_retry_info(Some(ASKED)),
            )),
        }
    }
}

/// A collector over gRPC. Its thread ends with the test's process.
#[expect(clippy::disallowed_methods, reason = "it serves until the test's process ends")]
fn over_grpc(seen: &Arc<Mutex<Seen>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    listener.set_nonblocking(true).expect("a listener for tokio");
    let service = TraceServiceServer::new(OverGrpc(Arc::clone(seen)));
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        })
    });
    address
}

/// A sender of spans to a scripted collector.
struct Sending {
    otlp: Otlp,
    spans: Spans,
    dropped: Arc<Dropped>,
    seen: Arc<Mutex<Seen>>,
}

impl Sending {
    fn start(transport: Transport) -> Self {
        let seen = Arc::default();
        let address = match transport {
            Transport::Http => over_http(&seen),
            Transport::Grpc => over_grpc(&seen),
        };
        let endpoint = Endpoint::parse(&format!("http://{address}")).expect("an address");
        // Nobody collects metrics here.
        let config = OtlpConfig { endpoint, protocol: transport, interval: PATIENCE };
        let dropped = Arc::new(Dropped::default());
        let (otlp, warnings) = Otlp::start(Some(&config), &resource("test", "1", "0"), &dropped);
        assert_eq!(warnings, Vec::<String>::new());
        let otlp = otlp.expect("something is sent");
        let spans = otlp.spans().expect("spans are sent");
        Self { otlp, spans, dropped, seen }
    }

    fn send<'a>(&self, all: impl IntoIterator<Item = &'a str>) {
        self.spans.send(all.into_iter().map(|is| {
            let now = SystemTime::now();
            let finished = Finished {
                name: "span",
                trace_id: TraceId::from(1),
                span_id: SpanId::from(1),
                parent: SpanId::INVALID,
                remote: false,
                kind: SpanKind::Internal,
                times: (now, now),
                attributes: vec![KeyValue::new("is", is.to_owned())],
                status: Status::Unset,
            };
            finished.into_data(InstrumentationScope::builder("test").build())
        }));
    }

    #[track_caller]
    fn until(&self, what: &str, mut done: impl FnMut(&Seen) -> bool) {
        let began = Instant::now();
        while !done(&self.seen.lock().expect("whole")) {
            assert!(began.elapsed() < PATIENCE, "{what}: {:?}, {}", self.seen, self.dropped());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn until_accepted(&self, is: &str) {
        self.until(is, |seen| seen.accepted.iter().any(|one| one.contains(is)));
    }

    fn dropped(&self) -> u64 {
        self.dropped.get(Signal::OtlpTraces)
    }
}

#[track_caller]
fn one_that_is_refused_for_good_holds_up_nothing(transport: Transport) {
    let sending = Sending::start(transport);
    sending.send(["poison"]);
    sending.until("the poison is dropped", |_| sending.dropped() == 1);
    sending.send(["good"]);
    sending.until_accepted("good");
    assert_eq!(sending.dropped(), 1);
    assert_eq!(sending.seen.lock().expect("whole").asked.len(), 2, "it was not sent again");
    sending.otlp.shutdown(PATIENCE);
}

#[test]
fn one_that_is_refused_for_good_holds_up_nothing_over_http() {
    one_that_is_refused_for_good_holds_up_nothing(Transport::Http);
}

#[test]
fn one_that_is_refused_for_good_holds_up_nothing_over_grpc() {
    one_that_is_refused_for_good_holds_up_nothing(Transport::Grpc);
}

#[track_caller]
fn of_a_backlog_that_is_too_large_only_what_is_too_large_by_itself_is_lost(transport: Transport) {
    let sending = Sending::start(transport);
    let giant = "giant".repeat(LIMIT);
    let small: Vec<_> = (0..100).map(|number| format!("small-{number}")).collect();
    let (before, after) = small.split_at(50);
    sending.send(before.iter().map(String::as_str).chain([&*giant]).chain(after.iter().map(String::as_str)));
    sending.until("all others arrive", |seen| seen.accepted.len() == small.len());
    let accepted = sending.seen.lock().expect("whole").accepted.clone();
    for (one, is) in accepted.iter().zip(&small) {
        assert!(one.contains(is), "in order: {accepted:?}");
    }
    sending.otlp.shutdown(PATIENCE);
    assert_eq!(sending.dropped.get(Signal::OtlpTraces), 1);
}

#[test]
fn of_a_backlog_that_is_too_large_only_what_is_too_large_by_itself_is_lost_over_http() {
    of_a_backlog_that_is_too_large_only_what_is_too_large_by_itself_is_lost(Transport::Http);
}

#[test]
fn of_a_backlog_that_is_too_large_only_what_is_too_large_by_itself_is_lost_over_grpc() {
    of_a_backlog_that_is_too_large_only_what_is_too_large_by_itself_is_lost(Transport::Grpc);
}

#[track_caller]
fn what_comes_too_early_is_sent_again(transport: Transport) {
    let sending = Sending::start(transport);
    sending.send(["early"]);
    sending.until_accepted("early");
    assert_eq!(sending.dropped(), 0);
    let asked = sending.seen.lock().expect("whole").asked.clone();
    let [first, second] = asked[..] else { panic!("asked {} times", asked.len()) };
    assert!(second - first >= ASKED, "no sooner than the collector asked: {:?}", second - first);
    sending.otlp.shutdown(PATIENCE);
}

#[test]
fn what_comes_too_early_is_sent_again_over_http() {
    what_comes_too_early_is_sent_again(Transport::Http);
}

#[test]
fn what_comes_too_early_is_sent_again_over_grpc() {
    what_comes_too_early_is_sent_again(Transport::Grpc);
}

#[track_caller]
fn what_a_collector_rejects_of_a_request_is_counted(transport: Transport) {
    let sending = Sending::start(transport);
    sending.send(["old", "good", "old"]);
    sending.until("the rejected ones are counted", |_| sending.dropped() == 2);
    assert_eq!(sending.seen.lock().expect("whole").accepted.len(), 3, "nothing is sent again");
    sending.otlp.shutdown(PATIENCE);
}

#[test]
fn what_a_collector_rejects_of_a_request_is_counted_over_http() {
    what_a_collector_rejects_of_a_request_is_counted(Transport::Http);
}

#[test]
fn what_a_collector_rejects_of_a_request_is_counted_over_grpc() {
    what_a_collector_rejects_of_a_request_is_counted(Transport::Grpc);
}
