//! Moves frames of messages between processes: one bidirectional gRPC stream per connection.
//!
//! Nothing here knows what the messages mean. A side that sends appends to its outbox and never waits; the
//! transport takes everything the outbox holds as one frame, so what is queued together travels together.
//! Bulk data (feeds, blocks) waits for [`Sender::ready`] before it is queued, so that a slow peer holds
//! back its own data and nobody's memory; an outbox that outgrows [`OUTBOX_BYTES_MAX`] closes the
//! connection. Dropping the receiver, or every clone of the sender, closes the connection, and the other
//! side's receiver ends at once.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::Stream;
use node_core::wire::{DecodeError, Reply, Request, WIRE_VERSION, Wire, decode_frame, refusal};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::{BoxFuture, Service};

const SERVICE: &str = "borealis.v1.Volume";
const PATH: &str = "/borealis.v1.Volume/Connect";

/// Bulk data is held back while this much is queued.
pub const BULK_BYTES_HIGH: usize = 4 << 20;
/// A connection whose outbox holds more than this is closed: its peer does not read.
pub const OUTBOX_BYTES_MAX: usize = 64 << 20;
/// The largest frame that is read.
pub const FRAME_BYTES_MAX: usize = 256 << 20;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

const _: () = assert!(BULK_BYTES_HIGH < OUTBOX_BYTES_MAX, "bulk data must wait before the outbox is full");
const _: () = assert!(OUTBOX_BYTES_MAX < FRAME_BYTES_MAX, "a full outbox must fit into one frame");

/// A connection failed.
#[derive(Debug, thiserror::Error)]
pub enum CarrierError {
    /// Not an address.
    #[error("{address} is not an address")]
    Address {
        /// What was given.
        address: String,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// Nobody answers there.
    #[error("failed to connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// The stream could not be opened, or broke.
    #[error("the stream broke: {reason}")]
    Stream {
        /// What the transport says.
        reason: String,
    },
    /// The peer sent something that is not a frame.
    #[error("the peer sent a frame that cannot be read")]
    Decode {
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The peer speaks another wire version, and says that it refuses this one.
    #[error("the other side refuses: {reason}")]
    Refused {
        /// Its sentence.
        reason: String,
    },
    /// The listening side failed.
    #[error("failed to serve connections")]
    Serve {
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

impl CarrierError {
    /// Why the two sides cannot talk, if their wire versions differ: a sentence for a person.
    pub fn other_version(&self) -> Option<String> {
        match self {
            CarrierError::Decode { source: source @ DecodeError::Version { .. } } => Some(source.to_string()),
            CarrierError::Refused { reason } => Some(reason.clone()),
            CarrierError::Address { .. }
            | CarrierError::Connect { .. }
            | CarrierError::Stream { .. }
            | CarrierError::Decode { .. }
            | CarrierError::Serve { .. } => None,
        }
    }
}

/// The connection is closed; nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub struct Closed;

struct Queued {
    version: u8,
    frame: BytesMut,
    waker: Option<Waker>,
    closed: bool,
    /// This side has closed it while the peer was there.
    cut: bool,
}

struct Outbox {
    queued: Mutex<Queued>,
    /// Somebody took the frame, or the connection closed.
    drained: Notify,
}

impl Outbox {
    fn new() -> Arc<Outbox> {
        let frame = BytesMut::new();
        let queued = Queued { version: WIRE_VERSION, frame, waker: None, closed: false, cut: false };
        Arc::new(Outbox { queued: Mutex::new(queued), drained: Notify::new() })
    }
    fn close(&self) {
        let waker = {
            let mut queued = self.queued.lock();
            queued.closed = true;
            queued.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        self.drained.notify_waiters();
    }
    fn append(&self, put: impl FnOnce(&mut BytesMut)) -> Result<(), Closed> {
        let waker = {
            let mut queued = self.queued.lock();
            if queued.closed {
                return Err(Closed);
            }
            let before = queued.frame.len();
            if before == 0 {
                let version = queued.version;
                queued.frame.put_u8(version);
            }
            put(&mut queued.frame);
            if before > 1 && queued.frame.len() > OUTBOX_BYTES_MAX {
                queued.closed = true;
                queued.cut = true;
                queued.frame = BytesMut::new();
            }
            queued.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }
}

/// Closes the outbox when the last clone of a sender is dropped.
struct CloseOnDrop(Arc<Outbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Sends messages; clones share one connection.
pub struct Sender<M> {
    outbox: Arc<Outbox>,
    _guard: Arc<CloseOnDrop>,
    message: PhantomData<fn(M)>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender { outbox: self.outbox.clone(), _guard: self._guard.clone(), message: PhantomData }
    }
}

impl<M: Wire> Sender<M> {
    fn new(outbox: Arc<Outbox>) -> Sender<M> {
        let guard = Arc::new(CloseOnDrop(outbox.clone()));
        Sender { outbox, _guard: guard, message: PhantomData }
    }
    /// Queues a message; never waits.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is.
    pub fn send(&self, message: &M) -> Result<(), Closed> {
        self.outbox.append(|frame| message.put(frame))
    }
    /// Queues messages that leave in one frame; never waits.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is.
    pub fn send_all<'a>(&self, messages: impl IntoIterator<Item = &'a M>) -> Result<(), Closed>
    where
        M: 'a,
    {
        self.outbox.append(|frame| {
            for message in messages {
                message.put(frame);
            }
        })
    }
    /// Queues messages that are already bytes (`Wire::put`, without a frame's version byte), so that one
    /// encoding serves many connections.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is.
    pub fn send_encoded(&self, messages: &[u8]) -> Result<(), Closed> {
        self.outbox.append(|frame| frame.put_slice(messages))
    }
    /// Waits until bulk data may be queued.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the connection is.
    pub async fn ready(&self) -> Result<(), Closed> {
        loop {
            let drained = self.outbox.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let queued = self.outbox.queued.lock();
                if queued.closed {
                    return Err(Closed);
                }
                if queued.frame.len() < BULK_BYTES_HIGH {
                    return Ok(());
                }
            }
            drained.await;
        }
    }
    /// Bytes that wait to be sent.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued.lock().frame.len()
    }
    /// Frames sent from now on say that they are of this version; what is in them stays as it is.
    #[doc(hidden)]
    pub fn set_version(&self, version: u8) {
        self.outbox.queued.lock().version = version;
    }
    /// True once nothing can be sent any more.
    pub fn is_closed(&self) -> bool {
        self.outbox.queued.lock().closed
    }
    /// Closes the connection once what is queued has left.
    pub fn close(&self) {
        self.outbox.close();
    }
    /// As [`Sender::close`], for a peer that does not know of it and would go on.
    pub fn cut(&self) {
        {
            let mut queued = self.outbox.queued.lock();
            queued.cut |= !queued.closed;
        }
        self.outbox.close();
    }
    /// Whether this side closed the connection although the peer was there: it was cut, or what was queued
    /// outgrew [`OUTBOX_BYTES_MAX`].
    pub fn was_cut(&self) -> bool {
        self.outbox.queued.lock().cut
    }
}

/// Receives messages until the connection closes.
pub struct Receiver<M> {
    frames: Streaming<Bytes>,
    outbox: Arc<Outbox>,
    message: PhantomData<fn() -> M>,
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl<M: Wire> Receiver<M> {
    /// The messages of the next frame; `None` once the peer has closed the connection.
    ///
    /// # Errors
    ///
    /// [`CarrierError`] if the connection broke or the peer sent something unreadable.
    pub async fn recv(&mut self) -> Result<Option<Vec<M>>, CarrierError> {
        let result = match self.frames.message().await {
            Ok(Some(frame)) => return decode(frame).map(Some),
            Ok(None) => Ok(None),
            Err(status) => Err(broken(&status)),
        };
        self.outbox.close();
        result
    }
    /// As [`Receiver::recv`], together with every frame that has already arrived.
    ///
    /// # Errors
    ///
    /// As [`Receiver::recv`].
    pub async fn recv_ready(&mut self) -> Result<Option<Vec<M>>, CarrierError> {
        let Some(mut messages) = self.recv().await? else { return Ok(None) };
        loop {
            let polled =
                std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut self.frames).poll_next(context)))
                    .await;
            match polled {
                Poll::Ready(Some(Ok(frame))) => messages.append(&mut decode(frame)?),
                // The end or the error shows again at the next call; what came before it counts.
                Poll::Ready(None | Some(Err(_))) | Poll::Pending => return Ok(Some(messages)),
            }
        }
    }
}

fn decode<M: Wire>(frame: Bytes) -> Result<Vec<M>, CarrierError> {
    decode_frame(frame.clone()).map_err(|source| match (source, refusal(&frame)) {
        (DecodeError::Version { .. }, Some(reason)) => CarrierError::Refused { reason },
        _ => CarrierError::Decode { source },
    })
}

fn broken(status: &Status) -> CarrierError {
    CarrierError::Stream { reason: format!("{:?}: {}", status.code(), status.message()) }
}

/// The outbox as the stream of frames the transport sends.
struct Frames(Arc<Outbox>);

impl Drop for Frames {
    fn drop(&mut self) {
        // The transport gave the stream up: nothing will be sent any more.
        self.0.close();
    }
}

impl Frames {
    fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let frame = {
            let mut queued = self.0.queued.lock();
            if queued.frame.is_empty() {
                if queued.closed {
                    return Poll::Ready(None);
                }
                queued.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            std::mem::take(&mut queued.frame)
        };
        self.0.drained.notify_waiters();
        Poll::Ready(Some(frame.freeze()))
    }
}

impl Stream for Frames {
    type Item = Bytes;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_frame(context)
    }
}

/// [`Frames`] as a server's response.
pub struct ReplyFrames(Frames);

impl Stream for ReplyFrames {
    type Item = Result<Bytes, Status>;
    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_frame(context).map(|frame| frame.map(Ok))
    }
}

/// Bytes as they are: frames are encoded before they come here.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = from.remaining();
        Ok(Some(from.copy_to_bytes(len)))
    }
}

/// Connects to a storage node at `host:port`; the name is resolved anew every time.
///
/// # Errors
///
/// [`CarrierError`] if nobody answers there within two seconds.
pub async fn connect(address: &str) -> Result<(Sender<Request>, Receiver<Reply>), CarrierError> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .map_err(|source| CarrierError::Address { address: address.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let open = async {
        let channel = endpoint
            .connect()
            .await
            .map_err(|source| CarrierError::Connect { address: address.to_owned(), source })?;
        let mut client = tonic::client::Grpc::new(channel)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX);
        client
            .ready()
            .await
            .map_err(|source| CarrierError::Connect { address: address.to_owned(), source })?;
        let outbox = Outbox::new();
        // Made before the request: whoever gives up waiting for the response drops it, and with that ends
        // the request's half of the stream as well.
        let sender = Sender::new(outbox.clone());
        let path = http::uri::PathAndQuery::from_static(PATH);
        let frames = client
            .streaming(tonic::Request::new(Frames(outbox.clone())), path, Raw)
            .await
            .map_err(|status| broken(&status))?
            .into_inner();
        Ok((sender, Receiver { frames, outbox, message: PhantomData }))
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, open).await {
        Ok(result) => result,
        Err(_) => Err(CarrierError::Stream { reason: format!("{address} did not answer in time") }),
    }
}

/// A connection somebody opened to this process.
pub struct Accepted {
    /// From where.
    pub remote: Option<SocketAddr>,
    /// Sends replies.
    pub sender: Sender<Reply>,
    /// Receives requests.
    pub receiver: Receiver<Request>,
}

/// Accepts connections until `shutdown`, handing each to `accept`, which must not block.
///
/// Afterwards the connections have a second to close.
///
/// # Errors
///
/// [`CarrierError::Serve`] if the listener fails.
pub async fn serve<F>(
    listener: TcpListener,
    accept: F,
    shutdown: CancellationToken,
) -> Result<(), CarrierError>
where
    F: Fn(Accepted) + Send + Sync + 'static,
{
    let incoming = tonic::transport::server::TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(KEEPALIVE_INTERVAL));
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .serve_with_incoming_shutdown(
            Acceptor { accept: Arc::new(accept) },
            incoming,
            shutdown.clone().cancelled_owned(),
        );
    let grace = async {
        shutdown.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = server => result.map_err(|source| CarrierError::Serve { source }),
        () = grace => Ok(()),
    }
}

struct Acceptor<F> {
    accept: Arc<F>,
}

impl<F> Clone for Acceptor<F> {
    fn clone(&self) -> Acceptor<F> {
        Acceptor { accept: self.accept.clone() }
    }
}

impl<F> tonic::server::NamedService for Acceptor<F> {
    const NAME: &'static str = SERVICE;
}

impl<F: Fn(Accepted) + Send + Sync + 'static> tonic::server::StreamingService<Bytes> for Acceptor<F> {
    type Response = Bytes;
    type ResponseStream = ReplyFrames;
    type Future = BoxFuture<tonic::Response<ReplyFrames>, Status>;
    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let outbox = Outbox::new();
        let remote = request.remote_addr();
        let receiver =
            Receiver { frames: request.into_inner(), outbox: outbox.clone(), message: PhantomData };
        (self.accept)(Accepted { remote, sender: Sender::new(outbox.clone()), receiver });
        Box::pin(async move { Ok(tonic::Response::new(ReplyFrames(Frames(outbox)))) })
    }
}

impl<F: Fn(Accepted) + Send + Sync + 'static> Service<http::Request<tonic::body::Body>> for Acceptor<F> {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("only Connect is offered here").into_http());
            }
            let mut grpc = tonic::server::Grpc::new(Raw)
                .max_decoding_message_size(FRAME_BYTES_MAX)
                .max_encoding_message_size(FRAME_BYTES_MAX);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

#[cfg(test)]
mod tests;
