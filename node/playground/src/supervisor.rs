//! The process that runs a cluster: it starts the others, follows what they say, takes orders and ends them.
//!
//! Everything happens on one thread, one event at a time. That is also what ties the children's lives to this
//! process: they are all started by its main thread (see [`crate::process`]).

use std::io;
use std::time::Duration;

use crds::cluster::Mode;
use crds::node_api::{NodeStatus, Role};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tracing::{error, info, warn};

use crate::addresses::Addresses;
use crate::control::{self, Answer, Order, Verb};
use crate::follow::follow;
use crate::layout::Layout;
use crate::links::{CutKind, Network, NetworkError};
use crate::member::{Ending, Member, Part, Running, State};
use crate::process::{self, Signal};
use crate::routes::{self, Backend, Routes, Seen};
use crate::status::{Address, Credentials, CutReport, InstanceReport, Report, StorageReport};

/// How long processes have to end in order before they are killed.
const ORDERLY_END: Duration = Duration::from_secs(15);
/// How long killed processes have to be gone.
const FORCED_END: Duration = Duration::from_secs(3);
/// How long the last answers may take to be written.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Lines of a log that are repeated when its process falls by itself.
const LAST_WORDS_LINES: usize = 3;

/// What the supervisor is started with.
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    pub(crate) layout: Layout,
    pub(crate) addresses: Addresses,
    pub(crate) credentials: Credentials,
    pub(crate) members: Vec<Member>,
    /// The links between them, if they can be cut.
    pub(crate) network: Option<Network>,
    pub(crate) routes: watch::Sender<Routes>,
    /// Print the endpoints once everything serves, for people in front of a terminal.
    pub(crate) announce: bool,
    /// After this long without being ready, say what is missing.
    pub(crate) patience: Duration,
}

/// The supervisor could not start.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The socket for orders.
    #[error("cannot listen for orders on {path:?}")]
    Control {
        /// The socket.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

enum Event {
    Ended { index: usize, run: u64, how: String },
    Said { index: usize, run: u64, status: Option<Box<NodeStatus>> },
    RestartDue { index: usize, run: u64 },
    Asked { order: Order, stream: UnixStream },
    Impatient,
    Interrupted(&'static str),
}

struct Supervisor {
    setup: Setup,
    events: mpsc::UnboundedSender<Event>,
    tasks: JoinSet<()>,
    answers: JoinSet<()>,
    waiting_for_ready: Vec<UnixStream>,
    highest_epoch: u64,
    announced: bool,
    started: Instant,
}

/// Runs the cluster until it is told to end. Returns whoever gave the order, to be told that it is done.
pub(crate) async fn run(setup: Setup) -> Result<(), SupervisorError> {
    let (events, mut incoming) = mpsc::unbounded_channel();
    let mut supervisor = Supervisor {
        events,
        tasks: JoinSet::new(),
        answers: JoinSet::new(),
        waiting_for_ready: Vec::new(),
        highest_epoch: 0,
        announced: false,
        started: Instant::now(),
        setup,
    };
    supervisor.listen_for_orders()?;
    supervisor.listen_for_signals()?;
    supervisor.arm_patience();
    // Storage first: an instance that finds its volume at once need not try again.
    for index in 0..supervisor.setup.members.len() {
        supervisor.start(index);
    }
    let mut whoever_asked = Vec::new();
    while let Some(event) = incoming.recv().await {
        match event {
            Event::Asked { order: Order::Down, stream } => {
                whoever_asked.push(stream);
                break;
            }
            Event::Interrupted(by) => {
                info!(signal = by, "ending");
                break;
            }
            other => supervisor.handle(other),
        }
    }
    supervisor.end_everything(&mut incoming, &mut whoever_asked).await;
    for stream in whoever_asked {
        supervisor.answer(stream, Answer::Done("all processes have ended".into()));
    }
    let answers = async { while supervisor.answers.join_next().await.is_some() {} };
    // Whoever does not read its answer by then is not waiting for it.
    let _ = time::timeout(LAST_ANSWERS, answers).await;
    let _ = std::fs::remove_file(supervisor.setup.layout.control_socket());
    Ok(())
}

impl Supervisor {
    fn listen_for_orders(&mut self) -> Result<(), SupervisorError> {
        let path = self.setup.layout.control_socket();
        // Left by a supervisor that was killed: this one holds the directory's lock, so nobody listens on it.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)
            .map_err(|source| SupervisorError::Control { path: path.clone(), source })?;
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let mut readers = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((mut stream, _)) = accepted else { continue };
                        let events = events.clone();
                        readers.spawn(async move {
                            // Whoever sends no order that can be read gets no answer.
                            if let Ok(order) = control::read_order(&mut stream).await {
                                let _ = events.send(Event::Asked { order, stream });
                            }
                        });
                    }
                    Some(_) = readers.join_next() => {}
                }
            }
        });
        Ok(())
    }

    fn listen_for_signals(&mut self) -> Result<(), SupervisorError> {
        let kinds = [
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::hangup(), "SIGHUP"),
        ];
        for (kind, name) in kinds {
            let mut stream = signal(kind)
                .map_err(|source| SupervisorError::System { action: "listen for signals", source })?;
            let events = self.events.clone();
            self.tasks.spawn(async move {
                while stream.recv().await.is_some() {
                    let _ = events.send(Event::Interrupted(name));
                }
            });
        }
        Ok(())
    }

    fn arm_patience(&mut self) {
        let (events, patience) = (self.events.clone(), self.setup.patience);
        self.tasks.spawn(async move {
            time::sleep(patience).await;
            let _ = events.send(Event::Impatient);
        });
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ended { index, run, how } => self.ended(index, run, &how),
            Event::Said { index, run, status } => {
                let member = &mut self.setup.members[index];
                if member.run == run && member.hear(status.map(|status| *status)) {
                    self.changed();
                }
            }
            Event::RestartDue { index, run } => {
                let member = &self.setup.members[index];
                if member.run == run && matches!(member.state, State::Crashed) {
                    self.start(index);
                }
            }
            Event::Asked { order, stream } => self.obey(order, stream),
            Event::Impatient => self.complain(),
            // Handled by the caller, which ends the loop.
            Event::Interrupted(_) => {}
        }
    }

    fn obey(&mut self, order: Order, stream: UnixStream) {
        match order {
            Order::Status => {
                let report = Box::new(self.report());
                self.answer(stream, Answer::Status(report));
            }
            Order::Ready => {
                self.waiting_for_ready.push(stream);
                self.changed();
            }
            Order::Process(verb, name) => match self.setup.members.iter().position(|m| m.name == name) {
                Some(index) => self.act(verb, index, stream),
                None => {
                    let names: Vec<&str> = self.setup.members.iter().map(|m| m.name.as_str()).collect();
                    let text = format!("there is no {name}: the names are {}", names.join(", "));
                    self.answer(stream, Answer::Refused(text));
                }
            },
            Order::Cut { name, other, kind, one_way } => {
                let answer = self.cut(&name, other.as_deref(), kind, one_way);
                self.answer(stream, answer);
            }
            Order::Heal { name, other } => {
                let answer = self.heal(name.as_deref(), other.as_deref());
                self.answer(stream, answer);
            }
            // Handled by the caller, which ends the loop.
            Order::Down => self.answer(stream, Answer::Done("ending".into())),
        }
    }

    fn act(&mut self, verb: Verb, index: usize, stream: UnixStream) {
        match verb {
            Verb::Start => self.start_by_command(index, stream),
            Verb::Kill => self.end_by_command(index, Ending::Killed, stream),
            Verb::Stop => self.end_by_command(index, Ending::Stopped, stream),
            Verb::Pause => self.pause(index, true, stream),
            Verb::Resume => self.pause(index, false, stream),
        }
    }

    fn cut(&mut self, name: &str, other: Option<&str>, kind: CutKind, one_way: bool) -> Answer {
        let whom = other.unwrap_or("everybody");
        self.on_network(|network| {
            network.cut(name, other, kind, one_way)?;
            Ok(match one_way {
                true => format!("what {name} sends does not reach {whom}"),
                false => format!("{name} is cut off from {whom}"),
            })
        })
    }

    fn heal(&mut self, name: Option<&str>, other: Option<&str>) -> Answer {
        self.on_network(|network| {
            let healed = network.heal(name, other)?;
            let left = network.cuts().count();
            Ok(format!("{healed} directions healed, {left} still cut"))
        })
    }

    fn on_network(&mut self, act: impl FnOnce(&mut Network) -> Result<String, NetworkError>) -> Answer {
        let Some(network) = &mut self.setup.network else {
            let text = "this playground's network cannot be cut: `down --keep-data`, then `up --cuttable`";
            return Answer::Refused(text.into());
        };
        match act(network) {
            Ok(text) => {
                info!(text, "network");
                Answer::Done(text)
            }
            Err(error) => Answer::Refused(error.to_string()),
        }
    }

    fn start_by_command(&mut self, index: usize, stream: UnixStream) {
        let name = self.setup.members[index].name.clone();
        if let Some(running) = self.setup.members[index].running() {
            let text = if running.ending.is_some() {
                "is still ending; start it once it has"
            } else {
                "runs already"
            };
            let answer = format!("{name} {text}");
            let refused = running.ending.is_some();
            self.answer(stream, if refused { Answer::Refused(answer) } else { Answer::Done(answer) });
            return;
        }
        self.setup.members[index].crashes = 0;
        let answer = if self.start(index) {
            Answer::Done(format!("{name} started"))
        } else {
            Answer::Refused(format!("{name} cannot be started: see the playground's log"))
        };
        self.answer(stream, answer);
    }

    fn end_by_command(&mut self, index: usize, ending: Ending, stream: UnixStream) {
        let member = &mut self.setup.members[index];
        let Some(running) = member.running_mut() else {
            // One that fell by itself and would be started again stays down now.
            member.state = State::Ended(ending);
            let text = format!("{} was not running; it stays down until it is started", member.name);
            self.answer(stream, Answer::Done(text));
            self.changed();
            return;
        };
        running.ending = Some(ending);
        match ending {
            Ending::Killed => send(running, &[Signal::Kill]),
            // A paused process could not hear it.
            Ending::Stopped => {
                running.paused = false;
                send(running, &[Signal::Terminate, Signal::Continue]);
            }
        }
        member.waiting.push(stream);
    }

    fn pause(&mut self, index: usize, paused: bool, stream: UnixStream) {
        let member = &mut self.setup.members[index];
        let name = member.name.clone();
        let Some(running) = member.running_mut() else {
            self.answer(stream, Answer::Refused(format!("{name} is not running: start it first")));
            return;
        };
        running.paused = paused;
        let (reply, sent) = oneshot::channel();
        let signal = if paused { Signal::Stop } else { Signal::Continue };
        let asked = running.signals.send((signal, reply)).is_ok();
        self.answers.spawn(async move {
            let answer = if asked && sent.await.unwrap_or(false) {
                Answer::Done(format!("{name} {}", if paused { "paused" } else { "resumed" }))
            } else {
                Answer::Refused(format!("{name} has just ended"))
            };
            write(stream, answer).await;
        });
        self.changed();
    }

    /// Starts a process; false if the system refuses, which is tried again like a crash.
    fn start(&mut self, index: usize) -> bool {
        let member = &mut self.setup.members[index];
        member.run += 1;
        let (run, name) = (member.run, member.name.clone());
        let started = self
            .setup
            .layout
            .open_log(&name)
            .map_err(io::Error::other)
            .and_then(|log| process::spawn(&member.line, log));
        let child = match started {
            Ok(child) => child,
            Err(error) => {
                error!(process = name, %error, "cannot start");
                member.state = State::Crashed;
                self.restart_after(index, Duration::from_secs(1));
                return false;
            }
        };
        let pid = child.id();
        if let Some(pid) = pid {
            let _ = std::fs::write(self.setup.layout.pid_file(&name), format!("{pid}\n"));
        }
        let (signals, requests) = mpsc::unbounded_channel();
        let events = self.events.clone();
        self.tasks.spawn(async move {
            let how = match process::accompany(child, requests).await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            let _ = events.send(Event::Ended { index, run, how });
        });
        let (events, http) = (self.events.clone(), member.http);
        let follower = self.tasks.spawn(follow(http, move |status| {
            let _ = events.send(Event::Said { index, run, status: status.map(Box::new) });
        }));
        member.state = State::Running(Running {
            pid,
            since: Instant::now(),
            paused: false,
            ending: None,
            status: None,
            was_ready: false,
            signals,
            follower,
        });
        self.changed();
        true
    }

    fn ended(&mut self, index: usize, run: u64, how: &str) {
        let member = &mut self.setup.members[index];
        if member.run != run {
            return;
        }
        let _ = std::fs::remove_file(self.setup.layout.pid_file(&member.name));
        let restart = member.ended(Instant::now());
        let waiting = std::mem::take(&mut member.waiting);
        let name = member.name.clone();
        match restart {
            Some(pause) => {
                let last_words = self.setup.layout.log_tail(&name, LAST_WORDS_LINES).join(" | ");
                warn!(process = name, how, last_words, restart_in = ?pause, "ended by itself");
                self.restart_after(index, pause);
            }
            None => info!(process = name, how, "ended"),
        }
        for stream in waiting {
            self.answer(stream, Answer::Done(format!("{name} ended ({how})")));
        }
        self.changed();
    }

    fn restart_after(&mut self, index: usize, pause: Duration) {
        let (events, run) = (self.events.clone(), self.setup.members[index].run);
        self.tasks.spawn(async move {
            time::sleep(pause).await;
            let _ = events.send(Event::RestartDue { index, run });
        });
    }

    /// Tells everybody what changed: endpoints, and whoever waits for the cluster to be ready.
    fn changed(&mut self) {
        // Finished tasks are let go here, so that they do not pile up.
        while self.tasks.try_join_next().is_some() {}
        while self.answers.try_join_next().is_some() {}
        let seen = seen(&self.setup.members);
        self.highest_epoch = self.highest_epoch.max(routes::highest_claim(&seen));
        let routes = routes::choose(self.setup.mode, &seen, self.highest_epoch);
        let epoch = self.highest_epoch;
        self.setup.routes.send_if_modified(|current| {
            if current.writer != routes.writer {
                match &routes.writer {
                    Some(writer) => info!(instance = writer.name, epoch, "the cluster endpoint leads to"),
                    None => info!("the cluster endpoint leads nowhere: there is no writer"),
                }
            }
            let changed = *current != routes;
            *current = routes;
            changed
        });
        if self.announced && self.waiting_for_ready.is_empty() {
            return;
        }
        let report = self.report();
        if report.is_ready() {
            self.ready(&report);
        }
    }

    fn ready(&mut self, report: &Report) {
        if !self.announced {
            self.announced = true;
            info!(seconds = self.started.elapsed().as_secs_f64(), "ready");
            if self.setup.announce {
                crate::commands::announce(report, self.setup.layout.root(), self.started.elapsed());
            }
        }
        for stream in std::mem::take(&mut self.waiting_for_ready) {
            self.answer(stream, Answer::Status(Box::new(report.clone())));
        }
    }

    fn complain(&self) {
        if self.announced {
            return;
        }
        for (name, state) in self.report().unready() {
            let last_words = self.setup.layout.log_tail(&name, LAST_WORDS_LINES).join(" | ");
            warn!(process = name, ?state, last_words, "not ready yet");
        }
    }

    fn report(&self) -> Report {
        let address =
            |address: std::net::SocketAddr| Address { host: address.ip().to_string(), port: address.port() };
        let mut report = Report {
            mode: self.setup.mode,
            cluster: self.setup.addresses.cluster.map(address),
            reader: self.setup.addresses.reader.map(address),
            credentials: self.setup.credentials.clone(),
            instances: Vec::new(),
            storage: Vec::new(),
            cuts: self.setup.network.as_ref().map(cuts),
        };
        // Of a single-master cluster one instance is the writer: the one that the cluster endpoint leads to. What
        // a dead or paused one last said of itself would make it two.
        let writer = self.setup.routes.borrow().writer.as_ref().map(|backend| backend.name.clone());
        let role = |member: &Member| match self.setup.mode {
            Mode::MultiMaster => Role::Writer,
            Mode::SingleMaster if writer.as_ref() == Some(&member.name) => Role::Writer,
            Mode::SingleMaster => Role::Reader,
        };
        for member in &self.setup.members {
            let (name, state) = (member.name.clone(), member.process_state());
            let pid = member.running().and_then(|running| running.pid);
            match &member.part {
                Part::Instance { mysql } => report.instances.push(InstanceReport {
                    name,
                    role: role(member),
                    state,
                    host: mysql.ip().to_string(),
                    port: mysql.port(),
                    http: member.http.port(),
                    pid,
                }),
                Part::Storage { zone } => {
                    report.storage.push(StorageReport { name, zone: zone.clone(), state, pid });
                }
            }
        }
        report
    }

    fn answer(&mut self, stream: UnixStream, answer: Answer) {
        self.answers.spawn(write(stream, answer));
    }

    /// Ends the instances, then the storage nodes: in order where they can, by force where they cannot.
    async fn end_everything(
        &mut self,
        incoming: &mut mpsc::UnboundedReceiver<Event>,
        whoever_asked: &mut Vec<UnixStream>,
    ) {
        for instances in [true, false] {
            let concerned = |member: &Member| member.is_instance() == instances;
            for member in self.setup.members.iter_mut().filter(|member| concerned(member)) {
                match member.running_mut() {
                    Some(running) => {
                        running.ending = Some(Ending::Stopped);
                        send(running, &[Signal::Terminate, Signal::Continue]);
                    }
                    None => member.state = State::Ended(Ending::Stopped),
                }
            }
            let mut deadline = Instant::now() + ORDERLY_END;
            let mut forced = false;
            while self.setup.members.iter().any(|member| concerned(member) && member.running().is_some()) {
                match time::timeout_at(deadline, incoming.recv()).await {
                    Ok(Some(Event::Ended { index, run, how })) => self.ended(index, run, &how),
                    Ok(Some(Event::Asked { order: Order::Down, stream })) => whoever_asked.push(stream),
                    Ok(Some(Event::Asked { stream, .. })) => {
                        self.answer(stream, Answer::Refused("the playground is ending".into()));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return,
                    Err(_) if forced => return,
                    Err(_) => {
                        forced = true;
                        deadline += FORCED_END;
                        self.kill_the_rest();
                    }
                }
            }
        }
    }

    fn kill_the_rest(&mut self) {
        for member in &mut self.setup.members {
            let name = member.name.clone();
            if let Some(running) = member.running_mut().filter(|running| running.ending.is_some()) {
                warn!(process = name, "did not end in time and is killed");
                send(running, &[Signal::Kill]);
            }
        }
    }
}

fn seen(members: &[Member]) -> Vec<Seen<'_>> {
    let seen = members.iter().filter_map(|member| {
        let (Part::Instance { mysql }, Some(running)) = (&member.part, member.running()) else { return None };
        let status = match &running.status {
            Some(NodeStatus::Instance(status)) => Some(status),
            Some(NodeStatus::Storage(_)) | None => None,
        };
        let backend = Backend { name: member.name.clone(), address: *mysql, run: member.run };
        Some(Seen { backend, paused: running.paused, status })
    });
    seen.collect()
}

fn cuts(network: &Network) -> Vec<CutReport> {
    let report =
        |(from, to, kind): (&str, &str, CutKind)| CutReport { from: from.into(), to: to.into(), kind };
    network.cuts().map(report).collect()
}

fn send(running: &Running, signals: &[Signal]) {
    for signal in signals {
        // If the process has just ended there is nobody to receive it, and its end is on its way to us.
        let _ = running.signals.send((*signal, oneshot::channel().0));
    }
}

async fn write(mut stream: UnixStream, answer: Answer) {
    // Whoever asked may have gone away.
    let _ = control::write_answer(&mut stream, &answer).await;
}
