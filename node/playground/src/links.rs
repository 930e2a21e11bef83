//! The network between the members of a playground that was started with `--cuttable`: every connection to a storage
//! node goes through a listener of the supervisor, one for each pair of a member and a storage node, and so can be cut.
//!
//! What is cut is a direction: what one member sends does not reach another. [`Network`] keeps the cuts and derives
//! from them what each link lets through; the forwarding itself runs on a thread of its own.
//!
//! - A *silent* cut is a cable that was pulled: connections stay open and nothing moves, a new one is taken and
//!   leads nowhere. After the healing, bytes that were sent meanwhile arrive, as TCP would send them again.
//! - A *refusing* cut is a firewall that rejects: connections break at once, new ones are closed.
//!
//! Not cut: clients' connections, and the status that the supervisor itself follows, which stands for Kubernetes.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

/// Buffer of each direction of a connection, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// How long connecting to a storage node of this machine may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause after a listener could not accept: descriptors are given back meanwhile.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How a cut shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CutKind {
    /// Nothing moves, and nobody is told.
    Silent,
    /// Connections break, new ones are refused.
    Refusing,
}

/// What a link lets through at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traffic {
    /// What the member that connects sends.
    there: bool,
    /// What the storage node answers.
    back: bool,
    /// Connections are closed.
    refused: bool,
}

const OPEN: Traffic = Traffic { there: true, back: true, refused: false };

/// A direction: who sends, and to whom it does not get.
type Direction = (String, String);

/// The links of a playground and their cuts.
#[derive(Debug)]
pub(crate) struct Network {
    links: Vec<Link>,
    cuts: BTreeMap<Direction, CutKind>,
}

#[derive(Debug)]
struct Link {
    from: String,
    to: String,
    address: SocketAddr,
    traffic: watch::Sender<Traffic>,
}

/// A link that does not run yet: its listener, and where it leads.
pub(crate) struct Unstarted {
    listener: StdListener,
    target: SocketAddr,
    traffic: watch::Receiver<Traffic>,
}

/// What cannot be cut or healed; the text says what can.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NetworkError {
    /// No such member.
    #[error("there is no {name}: the names are {names}")]
    Unknown {
        /// What was given.
        name: String,
        /// What there is.
        names: String,
    },
    /// They do not talk to each other.
    #[error(
        "there is nothing to cut between {one} and {other}: members talk to storage nodes, and instances not to each other"
    )]
    NoLink {
        /// The first.
        one: String,
        /// The second.
        other: String,
    },
}

impl Network {
    /// Listens for every pair of a member and a storage node. Ports are the system's choice: the listeners live as
    /// long as the members' processes can.
    pub(crate) fn listen(
        members: &[String],
        storage: &[(String, SocketAddr)],
    ) -> io::Result<(Network, Vec<Unstarted>)> {
        let (mut links, mut unstarted) = (Vec::new(), Vec::new());
        for from in members {
            for (to, target) in storage.iter().filter(|(to, _)| to != from) {
                let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
                let address = listener.local_addr()?;
                let (traffic, receiver) = watch::channel(OPEN);
                links.push(Link { from: from.clone(), to: to.clone(), address, traffic });
                unstarted.push(Unstarted { listener, target: *target, traffic: receiver });
            }
        }
        Ok((Network { links, cuts: BTreeMap::new() }, unstarted))
    }

    /// Where a member reaches a storage node; none if there is no link, as for the node itself.
    pub(crate) fn address(&self, from: &str, to: &str) -> Option<SocketAddr> {
        self.links.iter().find(|link| link.from == from && link.to == to).map(|link| link.address)
    }

    /// The directions that are cut.
    pub(crate) fn cuts(&self) -> impl Iterator<Item = (&str, &str, CutKind)> {
        self.cuts.iter().map(|((from, to), kind)| (from.as_str(), to.as_str(), *kind))
    }

    /// Cuts a member off from another, or from all; with `one_way` only what the first one sends.
    ///
    /// # Errors
    ///
    /// A name that does not exist, or two members that do not talk to each other.
    pub(crate) fn cut(
        &mut self,
        one: &str,
        other: Option<&str>,
        kind: CutKind,
        one_way: bool,
    ) -> Result<(), NetworkError> {
        for (from, to) in self.directions(one, other)? {
            if from == one || !one_way {
                self.cuts.insert((from, to), kind);
            }
        }
        self.apply();
        Ok(())
    }

    /// Ends the cuts between two members, of one member, or all of them. Returns how many directions were cut.
    ///
    /// # Errors
    ///
    /// See [`Network::cut`].
    pub(crate) fn heal(&mut self, one: Option<&str>, other: Option<&str>) -> Result<usize, NetworkError> {
        let before = self.cuts.len();
        match one {
            None => self.cuts.clear(),
            Some(one) => {
                for direction in self.directions(one, other)? {
                    self.cuts.remove(&direction);
                }
            }
        }
        self.apply();
        Ok(before - self.cuts.len())
    }

    /// Both directions between a member and another, or everybody that it talks to.
    fn directions(&self, one: &str, other: Option<&str>) -> Result<Vec<Direction>, NetworkError> {
        for name in [Some(one), other].into_iter().flatten() {
            if !self.links.iter().any(|link| link.from == name) {
                let mut names: Vec<&str> = self.links.iter().map(|link| link.from.as_str()).collect();
                names.dedup();
                return Err(NetworkError::Unknown { name: name.to_owned(), names: names.join(", ") });
            }
        }
        let concerned = |link: &&Link| {
            let ends = (link.from.as_str(), link.to.as_str());
            match other {
                Some(other) => ends == (one, other) || ends == (other, one),
                None => ends.0 == one || ends.1 == one,
            }
        };
        let mut directions = Vec::new();
        for link in self.links.iter().filter(concerned) {
            directions.push((link.from.clone(), link.to.clone()));
            directions.push((link.to.clone(), link.from.clone()));
        }
        match other {
            Some(other) if directions.is_empty() => {
                Err(NetworkError::NoLink { one: one.to_owned(), other: other.to_owned() })
            }
            _ => Ok(directions),
        }
    }

    /// Tells every link what it may let through.
    fn apply(&self) {
        for link in &self.links {
            let there = self.cuts.get(&(link.from.clone(), link.to.clone()));
            let back = self.cuts.get(&(link.to.clone(), link.from.clone()));
            let refused = [there, back].contains(&Some(&CutKind::Refusing));
            let traffic = Traffic { there: there.is_none(), back: back.is_none(), refused };
            link.traffic.send_if_modified(|current| std::mem::replace(current, traffic) != traffic);
        }
    }
}

/// Runs the links on a thread of their own until the [`Network`] is dropped.
pub(crate) fn start(links: Vec<Unstarted>) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut bound = Vec::new();
    {
        let _entered = runtime.enter();
        for Unstarted { listener, target, traffic } in links {
            listener.set_nonblocking(true)?;
            bound.push((TcpListener::from_std(listener)?, target, traffic));
        }
    }
    std::thread::Builder::new().name("links".into()).spawn(move || {
        runtime.block_on(async move {
            let mut links = JoinSet::new();
            for (listener, target, traffic) in bound {
                links.spawn(serve(listener, target, traffic));
            }
            while links.join_next().await.is_some() {}
        });
    })
}

async fn serve(listener: TcpListener, target: SocketAddr, traffic: watch::Receiver<Traffic>) {
    let mut connections = JoinSet::new();
    let mut ended = traffic.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(connection(client, target, traffic.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "a link cannot accept a connection");
                    time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = gone(&mut ended) => return,
        }
    }
}

/// Completes when nobody cuts any more: the playground ends.
async fn gone(traffic: &mut watch::Receiver<Traffic>) {
    while traffic.changed().await.is_ok() {}
}

async fn connection(client: TcpStream, target: SocketAddr, traffic: watch::Receiver<Traffic>) {
    let mut refused = traffic.clone();
    tokio::select! {
        // Dropping both ends is what breaks the connection.
        _ = refused.wait_for(|now| now.refused) => {}
        () = forward(client, target, traffic) => {}
    }
}

async fn forward(client: TcpStream, target: SocketAddr, mut traffic: watch::Receiver<Traffic>) {
    // A new connection needs both directions; until then it is one that nobody answers.
    if traffic.wait_for(|now| now.there && now.back).await.is_err() {
        return;
    }
    let Ok(Ok(server)) = time::timeout(CONNECT, TcpStream::connect(target)).await else { return };
    // Both are on this machine; waiting to fill a packet would only cost time.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let there = pump(client_reads, server_writes, traffic.clone(), |now| now.there);
    let back = pump(server_reads, client_writes, traffic, |now| now.back);
    // An error of one direction ends both, as it would without a link in between.
    let _ = tokio::try_join!(there, back);
}

/// Copies one direction while the link lets it through.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
    open: fn(&Traffic) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        // Nothing is read while the link is cut, so that a sender feels it once its buffers are full.
        traffic.wait_for(open).await.map_err(ended)?;
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = traffic.changed() => {
                changed.map_err(ended)?;
                continue;
            }
        };
        // What was read just before the cut does not get through either, nor does the end of the connection.
        traffic.wait_for(open).await.map_err(ended)?;
        match read? {
            0 => return to.shutdown().await,
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as StdStream;

    use super::*;

    /// A storage node that repeats what it hears.
    fn echo() -> SocketAddr {
        let listener = StdListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut copy = stream.try_clone().expect("a second handle");
                    let _ = io::copy(&mut stream, &mut copy);
                });
            }
        });
        address
    }

    fn network() -> Network {
        let members = ["it-0", "s-0", "s-1"].map(str::to_owned);
        let storage = ["s-0", "s-1"].map(|name| (name.to_owned(), echo()));
        let (network, links) = Network::listen(&members, &storage).expect("ports");
        start(links).expect("a thread");
        network
    }

    fn connect(network: &Network, from: &str, to: &str) -> StdStream {
        let stream = StdStream::connect(network.address(from, to).expect("a link")).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream
    }

    fn says(stream: &mut StdStream, byte: u8) {
        stream.write_all(&[byte]).expect("it takes a byte");
        assert_eq!(heard(stream), Some(byte));
    }

    fn heard(stream: &mut StdStream) -> Option<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }

    fn hears_nothing(stream: &mut StdStream) {
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        let kind = stream.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(kind, Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)), "{kind:?}");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    }

    #[test]
    fn silent_cut_stalls_connections_and_the_healing_delivers_what_was_sent_meanwhile() {
        let mut network = network();
        let mut old = connect(&network, "it-0", "s-0");
        says(&mut old, 1);
        network.cut("it-0", None, CutKind::Silent, false).expect("cut");
        let mut new = connect(&network, "it-0", "s-0");
        for stream in [&mut old, &mut new] {
            stream.write_all(&[2]).expect("buffers take it");
            hears_nothing(stream);
        }
        says(&mut connect(&network, "s-1", "s-0"), 3);
        assert_eq!(network.heal(Some("it-0"), None), Ok(4));
        assert_eq!((heard(&mut old), heard(&mut new)), (Some(2), Some(2)));
    }

    #[test]
    fn refusing_cut_breaks_connections_and_closes_new_ones() {
        let mut network = network();
        let mut old = connect(&network, "s-1", "s-0");
        says(&mut old, 1);
        network.cut("s-0", Some("s-1"), CutKind::Refusing, false).expect("cut");
        assert_eq!(heard(&mut old), None);
        assert_eq!(heard(&mut connect(&network, "s-1", "s-0")), None);
        says(&mut connect(&network, "it-0", "s-0"), 2);
        network.heal(None, None).expect("healed");
        says(&mut connect(&network, "s-1", "s-0"), 3);
    }

    #[test]
    fn one_way_cut_holds_back_only_what_the_first_member_sends() {
        let mut network = network();
        let mut asks = connect(&network, "it-0", "s-0");
        says(&mut asks, 1);
        network.cut("s-0", Some("it-0"), CutKind::Silent, true).expect("cut");
        assert_eq!(
            network.cuts().collect::<Vec<_>>(),
            [("s-0", "it-0", CutKind::Silent)],
            "the other direction is open"
        );
        asks.write_all(&[2]).expect("it gets there");
        hears_nothing(&mut asks);
        network.heal(Some("it-0"), Some("s-0")).expect("healed");
        assert_eq!(heard(&mut asks), Some(2));
    }

    #[test]
    fn what_cannot_be_cut_is_told_with_what_can() {
        let members = ["it-0", "it-1", "s-0"].map(str::to_owned);
        let (mut network, _) = Network::listen(&members, &[("s-0".into(), echo())]).expect("ports");
        let error = network.cut("it-7", None, CutKind::Silent, false).expect_err("no such member");
        assert!(error.to_string().contains("the names are it-0, it-1"), "{error}");
        let error = network.cut("it-0", Some("it-1"), CutKind::Silent, false).expect_err("no link");
        assert!(error.to_string().contains("nothing to cut between it-0 and it-1"), "{error}");
    }
}
