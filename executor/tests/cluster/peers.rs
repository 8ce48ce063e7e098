//! Peers that tests control: ends of a conversation that send what no honest one would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shard_executor::net::{self, Credentials, wire};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::process::PATIENCE;

/// What a fake shard sends in answer to a part with this tag.
pub(crate) type Answer = fn(wire::Tag) -> Vec<wire::up::Message>;

/// A shard that executes nothing and sends what the test orders.
pub(crate) struct FakeShard {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

impl FakeShard {
    pub(crate) fn start(answer: Answer) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let service = wire::shard_server::ShardServer::new(Answering(answer));
        let serving = net::server().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(serving);
        Self { address, _runtime: runtime }
    }
}

struct Answering(Answer);

#[tonic::async_trait]
impl wire::shard_server::Shard for Answering {
    type ServeStream = ReceiverStream<Result<wire::Up, Status>>;

    async fn serve(
        &self,
        request: Request<Streaming<wire::Down>>,
    ) -> Result<Response<Self::ServeStream>, Status> {
        let mut down = request.into_inner();
        let (up, stream) = mpsc::channel(64);
        let say = async |message| up.send(Ok(wire::Up { message: Some(message) })).await.unwrap();
        let shard = "fake".to_owned();
        let hello = wire::ShardHello { shard, incarnation: 77, version: net::VERSION, ..Default::default() };
        say(wire::up::Message::Hello(hello)).await;
        let answer = self.0;
        tokio::spawn(async move {
            while let Ok(Some(message)) = down.message().await {
                let Some(wire::down::Message::Run(run)) = message.message else { continue };
                for message in answer(run.tag.unwrap()) {
                    // The coordinator may have gone.
                    let _ = up.send(Ok(wire::Up { message: Some(message) })).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// A coordinator that sends one message at a time.
pub(crate) struct FakeCoordinator {
    runtime: Runtime,
    down: mpsc::Sender<wire::Down>,
    up: Streaming<wire::Up>,
    /// The shard's incarnation.
    pub(crate) shard: u64,
}

impl FakeCoordinator {
    pub(crate) fn connect(shard: SocketAddr, incarnation: u64) -> Self {
        let runtime = Runtime::new().unwrap();
        let (down, stream) = mpsc::channel(64);
        let hello = wire::CoordinatorHello { incarnation, version: net::VERSION };
        down.try_send(wire::Down { message: Some(wire::down::Message::Hello(hello)) }).unwrap();
        let up = runtime.block_on(async {
            let mut client =
                net::connect(&shard.to_string(), &Credentials::default(), &Arc::default()).await.unwrap();
            client.serve(ReceiverStream::new(stream)).await.unwrap().into_inner()
        });
        let mut this = Self { runtime, down, up, shard: 0 };
        let wire::up::Message::Hello(hello) = this.hear() else { panic!("no hello") };
        this.shard = hello.incarnation;
        this
    }

    pub(crate) fn say(&self, message: wire::down::Message) {
        self.down.try_send(wire::Down { message: Some(message) }).unwrap();
    }

    pub(crate) fn hear(&mut self) -> wire::up::Message {
        let next = async { tokio::time::timeout(PATIENCE, self.up.message()).await };
        let message = self.runtime.block_on(next).expect("it says something in time");
        message.unwrap().unwrap().message.unwrap()
    }

    /// The reason with which the shard ends the conversation.
    pub(crate) fn hears_the_end(&mut self) -> String {
        let next = async { tokio::time::timeout(PATIENCE, self.up.message()).await };
        let end = self.runtime.block_on(next).expect("it ends in time");
        end.expect_err("an end").to_string()
    }

    /// Ends the conversation.
    pub(crate) fn leave(self) {
        let Self { runtime, down, up, .. } = self;
        drop((down, up));
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
