//! `GET /metrics` on `--metrics ADDR`, by a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use shard_telemetry::dropped::Dropped;
use shard_telemetry::http::host::{self, Always, HostPattern, HostRule};
use shard_telemetry::http::serve;
use shard_telemetry::prometheus::{CONTENT_TYPE, Page};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// The running server.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    runtime: Runtime,
}

impl Server {
    /// Serves `page` on `listener`, also under the names of `hosts`.
    pub(super) fn start(
        listener: TcpListener,
        hosts: &[HostPattern],
        page: Page,
        dropped: Arc<Dropped>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("metrics").enable_all().build()?;
        let entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        drop(entered);
        let (stop, stopped) = watch::channel(false);
        let hosts = HostRule::new(Always::AnyAddress, hosts, |host| {
            format!("give it to the executor with --metrics-hosts {host} and restart it")
        });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .fallback(nothing_here)
            .with_state(Arc::new(page))
            .layer(middleware::from_fn(serve::limit))
            .layer(middleware::from_fn_with_state(Arc::new(hosts), host::check));
        let bounds = serve::Bounds { connections: serve::CONNECTIONS, stop: stopped, dropped };
        runtime.spawn(serve::serve(listener, router, bounds));
        Ok(Self { address, stop, runtime })
    }

    /// The address it listens on, with the actual port.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends without waiting for clients.
    pub(super) fn end(self) {
        let _ = self.stop.send(true);
        self.runtime.shutdown_background();
    }
}

async fn metrics(State(page): State<Arc<Page>>) -> Response {
    match page.render() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn nothing_here() -> Response {
    (StatusCode::NOT_FOUND, "there is nothing here but GET /metrics\n").into_response()
}
