//! The cluster endpoint and the reader endpoint of single-master mode, as Services would be: a TCP connection is
//! led to an instance and stays there until one side ends it.
//!
//! A connection through the cluster endpoint is closed as soon as its instance is no longer the writer, and one
//! through either endpoint when its instance's process ends. A connection that comes while there is no writer
//! waits a few seconds for one before it is refused with an error that MySQL clients show.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time;

use crate::routes::{Backend, Routes};

/// How long a new connection waits for somebody to lead it to.
const HOLD: Duration = Duration::from_secs(5);
/// How long connecting to an instance of this machine may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Buffer of each direction of a connection, in bytes.
const BUFFER_BYTES: usize = 16 << 10;
/// Connections of one endpoint at a time.
const CONNECTIONS_MAX: usize = 20_000;

/// Which instances an endpoint leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// To the writer.
    Cluster,
    /// To the replicas.
    Reader,
}

/// Connections by instance of the reader endpoint.
type Load = Arc<Mutex<HashMap<SocketAddr, usize>>>;

/// Runs the endpoints on a thread of their own until the routes' sender is dropped.
pub(crate) fn start(
    listeners: Vec<(Endpoint, StdListener)>,
    routes: watch::Receiver<Routes>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut bound = Vec::new();
    {
        let _entered = runtime.enter();
        for (endpoint, listener) in listeners {
            listener.set_nonblocking(true)?;
            bound.push((endpoint, TcpListener::from_std(listener)?));
        }
    }
    std::thread::Builder::new().name("endpoints".into()).spawn(move || {
        runtime.block_on(async move {
            let mut endpoints = JoinSet::new();
            for (endpoint, listener) in bound {
                endpoints.spawn(serve(endpoint, listener, routes.clone()));
            }
            while endpoints.join_next().await.is_some() {}
        });
    })
}

async fn serve(endpoint: Endpoint, listener: TcpListener, mut routes: watch::Receiver<Routes>) {
    let load = Load::default();
    let mut connections = JoinSet::new();
    loop {
        let full = connections.len() >= CONNECTIONS_MAX;
        tokio::select! {
            accepted = listener.accept(), if !full => match accepted {
                Ok((client, _)) => {
                    connections.spawn(connection(endpoint, client, routes.clone(), Arc::clone(&load)));
                }
                // Out of descriptors, most likely: those that end give theirs back.
                Err(error) => {
                    tracing::warn!(%error, "an endpoint cannot accept a connection");
                    time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            ended = gone(&mut routes) => return ended,
        }
    }
}

/// Completes when nobody sets routes any more.
async fn gone(routes: &mut watch::Receiver<Routes>) {
    while routes.changed().await.is_ok() {}
}

async fn connection(
    endpoint: Endpoint,
    mut client: TcpStream,
    mut routes: watch::Receiver<Routes>,
    load: Load,
) {
    let deadline = time::Instant::now() + HOLD;
    let Some((backend, mut server)) = reach(endpoint, &mut routes, &load, deadline).await else {
        refuse(client, endpoint).await;
        return;
    };
    // Both are on this machine; waiting to fill a packet would only cost time.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        // Why a connection ended is of no interest to anybody but its two ends.
        _ = copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES) => {}
        () = unrouted(endpoint, &backend, &mut routes) => {}
    }
    if endpoint == Endpoint::Reader {
        leave(&load, backend.address).await;
    }
}

/// Connects to whoever the endpoint leads to, as soon as there is somebody.
async fn reach(
    endpoint: Endpoint,
    routes: &mut watch::Receiver<Routes>,
    load: &Load,
    deadline: time::Instant,
) -> Option<(Backend, TcpStream)> {
    loop {
        let now = routes.borrow_and_update().clone();
        let chosen = match endpoint {
            Endpoint::Cluster => now.writer,
            Endpoint::Reader => least_used(load, &now).await,
        };
        if let Some(backend) = chosen {
            if let Ok(Ok(server)) = time::timeout(CONNECT, TcpStream::connect(backend.address)).await {
                return Some((backend, server));
            }
            if endpoint == Endpoint::Reader {
                leave(load, backend.address).await;
            }
        }
        // Nobody, or somebody who just died: the next change of the routes tells.
        match time::timeout_at(deadline, routes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

async fn least_used(load: &Load, routes: &Routes) -> Option<Backend> {
    let mut load = load.lock().await;
    let candidates = if routes.replicas.is_empty() { routes.writer.as_slice() } else { &routes.replicas };
    let chosen = candidates.iter().min_by_key(|backend| load.get(&backend.address).copied().unwrap_or(0))?;
    *load.entry(chosen.address).or_default() += 1;
    Some(chosen.clone())
}

async fn leave(load: &Load, address: SocketAddr) {
    if let Some(count) = load.lock().await.get_mut(&address) {
        *count = count.saturating_sub(1);
    }
}

/// Completes when the connection may no longer stay where it is.
async fn unrouted(endpoint: Endpoint, backend: &Backend, routes: &mut watch::Receiver<Routes>) {
    let stays = |routes: &Routes| match endpoint {
        // While a new writer is not known the old one keeps its connections: storage fences it if it must.
        Endpoint::Cluster => {
            routes.writer.as_ref().is_none_or(|writer| writer == backend) && routes.alive.contains(backend)
        }
        Endpoint::Reader => routes.alive.contains(backend),
    };
    // An error means that the playground ends, and its endpoints with it.
    let _ = routes.wait_for(|routes| !stays(routes)).await;
}

/// Tells the client in MySQL's words that nobody is there: an error packet in place of the greeting.
async fn refuse(mut client: TcpStream, endpoint: Endpoint) {
    const ER_SERVER_SHUTDOWN: u16 = 1053;
    let text = match endpoint {
        Endpoint::Cluster => "The cluster has no writer at the moment; try again",
        Endpoint::Reader => "The cluster has no instance to read from at the moment; try again",
    };
    let length = u8::try_from(3 + text.len()).expect("both texts are short");
    let mut packet = vec![length, 0, 0, 0, 0xff];
    packet.extend_from_slice(&ER_SERVER_SHUTDOWN.to_le_bytes());
    packet.extend_from_slice(text.as_bytes());
    let _ = client.write_all(&packet).await;
    let _ = client.shutdown().await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as StdStream;

    use super::*;

    /// A server that greets every connection with its name and then repeats what it hears.
    fn server(name: &'static str) -> SocketAddr {
        let listener = StdListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let _ = stream.write_all(name.as_bytes());
                    let mut copy = stream.try_clone().expect("a second handle");
                    let _ = std::io::copy(&mut stream, &mut copy);
                });
            }
        });
        address
    }

    fn backend(name: &'static str) -> Backend {
        Backend { name: name.into(), address: server(name), run: 1 }
    }

    fn endpoint(kind: Endpoint, routes: &watch::Sender<Routes>) -> SocketAddr {
        let listener = StdListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        start(vec![(kind, listener)], routes.subscribe()).expect("a thread");
        address
    }

    fn greeting(address: SocketAddr) -> (String, StdStream) {
        let mut stream = StdStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut name = [0_u8; 1];
        stream.read_exact(&mut name).expect("a greeting");
        (String::from_utf8_lossy(&name).into_owned(), stream)
    }

    fn routes(writer: Option<&Backend>, replicas: &[&Backend], alive: &[&Backend]) -> Routes {
        let owned = |list: &[&Backend]| list.iter().map(|one| (*one).clone()).collect();
        Routes { writer: writer.cloned(), replicas: owned(replicas), alive: owned(alive) }
    }

    #[test]
    fn connection_to_a_demoted_writer_is_closed_and_a_new_one_reaches_the_new_writer() {
        let (a, b) = (backend("a"), backend("b"));
        let (sender, _keep) = watch::channel(routes(Some(&a), &[&b], &[&a, &b]));
        let address = endpoint(Endpoint::Cluster, &sender);
        let (name, mut old) = greeting(address);
        assert_eq!(name, "a");
        sender.send_replace(routes(None, &[&b], &[&a, &b]));
        old.write_all(b"x").expect("still open");
        old.read_exact(&mut [0]).expect("the old writer keeps it while no new one is known");
        sender.send_replace(routes(Some(&b), &[], &[&a, &b]));
        assert_eq!(old.read(&mut [0]).unwrap_or(0), 0, "closed");
        assert_eq!(greeting(address).0, "b");
    }

    #[test]
    fn connection_waits_for_a_writer() {
        let a = backend("a");
        let (sender, _keep) = watch::channel(Routes::default());
        let address = endpoint(Endpoint::Cluster, &sender);
        let waiting = std::thread::spawn(move || greeting(address).0);
        sender.send_replace(routes(Some(&a), &[], &[&a]));
        assert_eq!(waiting.join().expect("no panic"), "a");
    }

    #[test]
    fn reader_connections_are_spread_over_the_replicas() {
        let (a, b, c) = (backend("a"), backend("b"), backend("c"));
        let (sender, _keep) = watch::channel(routes(Some(&a), &[&b, &c], &[&a, &b, &c]));
        let address = endpoint(Endpoint::Reader, &sender);
        let open: Vec<_> = (0..6).map(|_| greeting(address)).collect();
        assert_eq!(open.iter().filter(|(name, _)| name == "b").count(), 3);
        assert_eq!(open.iter().filter(|(name, _)| name == "c").count(), 3);
    }

    #[test]
    fn reader_endpoint_leads_to_the_writer_where_there_are_no_replicas() {
        let a = backend("a");
        let (sender, _keep) = watch::channel(routes(Some(&a), &[], &[&a]));
        assert_eq!(greeting(endpoint(Endpoint::Reader, &sender)).0, "a");
    }
}
