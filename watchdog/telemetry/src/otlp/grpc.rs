//! Sends log records and spans over gRPC. The exporter of OpenTelemetry reduces a failure to a text
//! without its details, which say whether the items may be sent again and when, and says nothing of
//! what a collector rejected.

use axum::http::HeaderMap;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::LogBatch;
use opentelemetry_sdk::trace::SpanData;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::OtlpError;
use super::answer::Answer;
use super::build::Runner;
use super::settings::{Kind, Route};
use super::tls::Tls;

/// In the form that the specification of OTLP asks for.
const USER_AGENT: &str = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"), " shard-telemetry");

/// A connection to the collector of one signal.
#[derive(Debug)]
pub(super) struct Grpc {
    channel: Channel,
    metadata: MetadataMap,
    gzip: bool,
    runner: Runner,
    resource: ResourceAttributesWithSchema,
}

impl Grpc {
    /// Connects with the first request, so a collector may start later. To be called inside of the
    /// runtime of `runner`.
    pub(super) fn new(
        kind: Kind,
        route: &Route,
        resource: &Resource,
        runner: Runner,
    ) -> Result<Self, OtlpError> {
        let endpoint = Endpoint::from_shared(route.endpoint.url().to_owned())?.user_agent(USER_AGENT)?;
        let endpoint = if route.endpoint.is_https() {
            endpoint.tls_config(Tls::new(kind, route)?.channel())?
        } else {
            endpoint
        };
        Ok(Self {
            channel: endpoint.timeout(route.timeout).connect_lazy(),
            metadata: metadata(route),
            gzip: route.gzip,
            runner,
            resource: resource.into(),
        })
    }

    pub(super) fn send_logs(&self, some: &LogBatch<'_>) -> Answer {
        let resource_logs = group_logs_by_resource_and_scope(some, &self.resource);
        let mut client = LogsServiceClient::new(self.channel.clone());
        if self.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let sending = client.export(self.request(ExportLogsServiceRequest { resource_logs }));
        answer(self.runner.wait(sending), |response| {
            response.partial_success.map(|part| (part.rejected_log_records, part.error_message))
        })
    }

    pub(super) fn send_spans(&self, some: &[SpanData]) -> Answer {
        let resource_spans = group_spans_by_resource_and_scope(some.to_vec(), &self.resource);
        let mut client = TraceServiceClient::new(self.channel.clone());
        if self.gzip {
            client = client
                .send_compressed(CompressionEncoding::Gzip)
                .accept_compressed(CompressionEncoding::Gzip);
        }
        let sending = client.export(self.request(ExportTraceServiceRequest { resource_spans }));
        answer(self.runner.wait(sending), |response| {
            response.partial_success.map(|part| (part.rejected_spans, part.error_message))
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        request
    }
}

fn answer<T>(
    result: Result<tonic::Response<T>, Status>,
    partial: impl FnOnce(T) -> Option<(i64, String)>,
) -> Answer {
    match result {
        Ok(response) => {
            let (rejected, message) = partial(response.into_inner()).unwrap_or_default();
            Answer::accepted(rejected, &message)
        }
        Err(status) => Answer::over_grpc(&status),
    }
}

/// The headers of a route.
pub(super) fn metadata(route: &Route) -> MetadataMap {
    MetadataMap::from_headers(route.headers.iter().cloned().collect::<HeaderMap>())
}
