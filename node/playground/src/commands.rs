//! What each command line does.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Error;
use crate::addresses::{self, Addresses};
use crate::args::{CutArgs, DataDir, DownArgs, HealArgs, NameArgs, Output, StatusArgs, UpArgs};
use crate::control::{self, Answer, ControlError, Order, Verb};
use crate::forward::{self, Endpoint};
use crate::layout::{Held, Layout, LayoutError, Record};
use crate::links::{self, CutKind, Network};
use crate::member::{Member, Part};
use crate::ports::{self, Block};
use crate::process;
use crate::routes::Routes;
use crate::status::{Credentials, Report};
use crate::supervisor::{self, Setup, SupervisorError};
use crate::topology::{ManifestError, Topology};

/// How long an order that only asks or signals may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long `stop` and `down` may take: the processes' own time to end in order, and some more.
const PATIENCE_END: Duration = Duration::from_secs(60);
/// Pause between two looks at whether the background process listens yet.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Name of the background process's log.
const SUPERVISOR: &str = "playground";

fn layout(given: &DataDir) -> Result<Layout, Error> {
    Layout::of(given.data_dir.as_deref()).map_err(Error::Layout)
}

/// `up`.
pub(crate) fn up(args: &UpArgs) -> Result<(), Error> {
    let topology = Topology::read(&args.file).map_err(Error::Manifest)?;
    let layout = layout(&args.data_dir)?;
    let held = layout.prepare().map_err(Error::Layout)?;
    if let Some(record) = layout.record().map_err(Error::Layout)? {
        topology
            .check_change(&args.file, layout.root(), &record.cluster, &record.spec)
            .map_err(Error::Manifest)?;
    }
    if !args.detach {
        return supervise(args, topology, layout, held);
    }
    // Refusals come from here, before anything runs in the background.
    let mut block = take_block(None)?;
    Addresses::choose(&topology, args.port, &mut block).map_err(Error::Ports)?;
    drop((block, held));
    detach(args, &topology, &layout)
}

/// Runs the cluster in this process until it is told to end.
fn supervise(args: &UpArgs, topology: Topology, layout: Layout, held: Held) -> Result<(), Error> {
    let system = |action| move |source| Error::Supervisor(SupervisorError::System { action, source });
    let kept = layout.record().map_err(Error::Layout)?.and_then(|record| record.block);
    let mut block = take_block(kept)?;
    let addresses = Addresses::choose(&topology, args.port, &mut block).map_err(Error::Ports)?;
    let password = layout.password().map_err(Error::Layout)?;
    let record = Record {
        cluster: topology.name.clone(),
        spec: topology.spec.clone(),
        block: Some(block.first()),
        control: layout.control_socket(),
    };
    layout.write_record(&record).map_err(Error::Layout)?;
    let (routes, receiver) = tokio::sync::watch::channel(Routes::default());
    let endpoints = listen(&addresses)?;
    let forwarder = (!endpoints.is_empty())
        .then(|| forward::start(endpoints, receiver))
        .transpose()
        .map_err(system("start the endpoints"))?;
    let (network, links) = match args.cuttable {
        true => Some(network(&topology, &addresses).map_err(system("listen between the members"))?).unzip(),
        false => (None, None),
    };
    let members = members(args, &topology, &addresses, &layout, network.as_ref())
        .map_err(system("find the program that runs"))?;
    let links = links.map(links::start).transpose().map_err(system("start the links"))?;
    let setup = Setup {
        mode: topology.mode,
        credentials: Credentials { user: topology.user, password, database: topology.database },
        layout,
        addresses,
        members,
        network,
        routes,
        announce: !args.supervise,
        patience: Duration::from_secs(args.wait),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the runtime"))?;
    runtime.block_on(supervisor::run(setup)).map_err(Error::Supervisor)?;
    // The routes' sender and the network are gone with the supervisor, which ends the endpoints and the links.
    for thread in [forwarder, links].into_iter().flatten() {
        let _ = thread.join();
    }
    drop((block, held));
    Ok(())
}

fn take_block(kept: Option<u16>) -> Result<Block, Error> {
    let mut random = [0_u8; 2];
    // Without randomness the search simply starts at the beginning.
    let _ = getrandom::fill(&mut random);
    Block::take(kept, u16::from_ne_bytes(random)).map_err(Error::Ports)
}

fn listen(addresses: &Addresses) -> Result<Vec<(Endpoint, std::net::TcpListener)>, Error> {
    let wanted = [(Endpoint::Cluster, addresses.cluster), (Endpoint::Reader, addresses.reader)];
    let bind = |(endpoint, address): (Endpoint, Option<std::net::SocketAddr>)| {
        let address = address?;
        let taken = |source| Error::Ports(ports::PortsError::Taken { port: address.port(), source });
        Some(std::net::TcpListener::bind(address).map(|listener| (endpoint, listener)).map_err(taken))
    };
    wanted.into_iter().filter_map(bind).collect()
}

/// Listens between every member and every storage node.
fn network(topology: &Topology, addresses: &Addresses) -> std::io::Result<(Network, Vec<links::Unstarted>)> {
    let storage: Vec<_> = topology
        .storage
        .iter()
        .zip(&addresses.storage)
        .map(|(node, pair)| (node.name.clone(), pair.serve))
        .collect();
    let instances = topology.instances.iter().map(|instance| instance.name.clone());
    let members: Vec<String> = instances.chain(storage.iter().map(|(name, _)| name.clone())).collect();
    Network::listen(&members, &storage)
}

fn members(
    args: &UpArgs,
    topology: &Topology,
    addresses: &Addresses,
    layout: &Layout,
    network: Option<&Network>,
) -> std::io::Result<Vec<Member>> {
    let program = process::own_program()?;
    let storage = topology.storage.iter().map(|node| {
        let line = addresses::storage_line(&program, topology, node, addresses, layout, network);
        let part = Part::Storage { zone: node.zone.clone() };
        Member::new(&node.name, part, addresses.storage[usize::from(node.id)].http, line)
    });
    let instances = topology.instances.iter().zip(&addresses.instances).map(|(instance, pair)| {
        let line = addresses::instance_line(
            &program,
            topology,
            instance,
            *pair,
            addresses,
            layout,
            args.cache_bytes,
            network,
        );
        Member::new(&instance.name, Part::Instance { mysql: pair.serve }, pair.http, line)
    });
    Ok(storage.chain(instances).collect())
}

/// Starts the supervisor in the background and waits until the cluster is ready.
fn detach(args: &UpArgs, topology: &Topology, layout: &Layout) -> Result<(), Error> {
    let started = std::time::Instant::now();
    let patience = Duration::from_secs(args.wait);
    let mut supervisor = start_in_background(args, layout)?;
    let socket = layout.control_socket();
    loop {
        match control::ask(&socket, &Order::Ready, patience.saturating_sub(started.elapsed()).max(LOOK_AGAIN))
        {
            Ok(Answer::Status(report)) => {
                announce(&report, layout.root(), started.elapsed());
                return Ok(());
            }
            Ok(Answer::Done(text) | Answer::Refused(text)) => return Err(Error::Refused { text }),
            // It does not listen yet, or has not answered in time.
            Err(ControlError::NotRunning { .. } | ControlError::Broken { .. }) => {}
            Err(error) => return Err(Error::Control(error)),
        }
        if let Ok(Some(status)) = supervisor.try_wait() {
            let log = layout.log_tail(SUPERVISOR, 5).join("\n");
            return Err(Error::Background { how: status.to_string(), log });
        }
        if started.elapsed() >= patience {
            return Err(not_ready(topology, layout, patience));
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}

fn start_in_background(args: &UpArgs, layout: &Layout) -> Result<Child, Error> {
    let failed = |source| {
        Error::Supervisor(SupervisorError::System { action: "start the background process", source })
    };
    let log = layout.open_log(SUPERVISOR).map_err(Error::Layout)?;
    let again: File = log.try_clone().map_err(failed)?;
    let mut command = Command::new(process::own_program().map_err(failed)?);
    command.args(["playground", "up", "--supervise", "--file"]).arg(&args.file);
    command.arg("--data-dir").arg(layout.root()).arg("--wait").arg(args.wait.to_string());
    if let Some(port) = args.port {
        command.arg("--port").arg(port.to_string());
    }
    if let Some(bytes) = args.cache_bytes {
        command.arg("--cache-bytes").arg(bytes.to_string());
    }
    if args.cuttable {
        command.arg("--cuttable");
    }
    command.stdin(Stdio::null()).stdout(log).stderr(again).spawn().map_err(failed)
}

fn not_ready(topology: &Topology, layout: &Layout, patience: Duration) -> Error {
    let missing = match control::ask(&layout.control_socket(), &Order::Status, PATIENCE) {
        Ok(Answer::Status(report)) => report.unready(),
        Ok(Answer::Done(_) | Answer::Refused(_)) | Err(_) => Vec::new(),
    };
    let lines = missing.iter().map(|(name, state)| {
        let said = layout.log_tail(name, 1).join("");
        format!("  {name} is {state:?}: {said}")
    });
    Error::NotReady {
        cluster: topology.name.clone(),
        seconds: patience.as_secs(),
        missing: lines.collect::<Vec<_>>().join("\n"),
        logs: layout.root().join("logs"),
    }
}

/// Prints the endpoints of a cluster that has become ready.
pub(crate) fn announce(report: &Report, data_dir: &Path, took: Duration) {
    let endpoints = report.endpoints();
    let any = report.instances.first().map_or("NAME", |instance| instance.name.as_str());
    say(&format!("Ready after {:.1} s.\n\n{endpoints}", took.as_secs_f64()));
    say(&format!("Data, logs and the password are in {}.", data_dir.display()));
    say(&format!("Break something:  borealis-node playground kill {any}    then: start {any}, status, down"));
}

/// Prints a line. Whoever closes the pipe early, as `head` does, has read what it wanted.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// `status`.
pub(crate) fn status(args: &StatusArgs) -> Result<(), Error> {
    let layout = layout(&args.data_dir)?;
    match order(&layout, &Order::Status, PATIENCE)? {
        Answer::Status(report) => {
            match args.output {
                Output::Table => say(report.table().trim_end()),
                Output::Json => {
                    say(&serde_json::to_string(&report).expect("a report of plain values serialises"));
                }
            }
            Ok(())
        }
        Answer::Done(text) | Answer::Refused(text) => Err(Error::Refused { text }),
    }
}

/// `cut`.
pub(crate) fn cut(args: &CutArgs) -> Result<(), Error> {
    let kind = if args.refuse { CutKind::Refusing } else { CutKind::Silent };
    let (name, other) = (args.name.clone(), args.other.clone());
    tell(&layout(&args.data_dir)?, &Order::Cut { name, other, kind, one_way: args.one_way }, PATIENCE)
}

/// `heal`.
pub(crate) fn heal(args: &HealArgs) -> Result<(), Error> {
    let (name, other) = (args.name.clone(), args.other.clone());
    tell(&layout(&args.data_dir)?, &Order::Heal { name, other }, PATIENCE)
}

/// `kill`, `stop`, `start`, `pause` and `resume`.
pub(crate) fn act(verb: Verb, args: &NameArgs) -> Result<(), Error> {
    let layout = layout(&args.data_dir)?;
    let patience = if verb == Verb::Stop { PATIENCE_END } else { PATIENCE };
    tell(&layout, &Order::Process(verb, args.name.clone()), patience)
}

/// Gives an order that is answered by a sentence, and prints that.
fn tell(layout: &Layout, what: &Order, patience: Duration) -> Result<(), Error> {
    match order(layout, what, patience)? {
        Answer::Done(text) => {
            say(&text);
            Ok(())
        }
        Answer::Refused(text) => Err(Error::Refused { text }),
        Answer::Status(_) => Ok(()),
    }
}

/// `down`.
pub(crate) fn down(args: &DownArgs) -> Result<(), Error> {
    let layout = layout(&args.data_dir)?;
    match order(&layout, &Order::Down, PATIENCE_END) {
        Ok(_) => {}
        // Nothing runs; what is on the disk can be removed all the same.
        Err(Error::Control(ControlError::NotRunning { .. })) => {}
        Err(error) => return Err(error),
    }
    let held = layout.hold_after_its_end().map_err(Error::Layout)?;
    if args.keep_data {
        say(&format!("Down. Its data stays in {}; `up` goes on with it.", layout.root().display()));
        return Ok(());
    }
    layout.remove(held).map_err(Error::Layout)?;
    say(&format!("Down. Its data is removed from {}.", layout.root().display()));
    Ok(())
}

fn order(layout: &Layout, order: &Order, patience: Duration) -> Result<Answer, Error> {
    let record = layout.existing_record().map_err(Error::Layout)?;
    control::ask(&record.control, order, patience).map_err(Error::Control)
}

impl Error {
    /// 2 for what the user wrote, 1 for what went wrong.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Manifest(
                ManifestError::Refused { .. } | ManifestError::Changed { .. } | ManifestError::Read { .. },
            ) => 2,
            Error::Layout(LayoutError::Foreign { .. } | LayoutError::NoHome) | Error::Ports(_) => 2,
            Error::Layout(_)
            | Error::Control(_)
            | Error::Supervisor(_)
            | Error::Refused { .. }
            | Error::Background { .. }
            | Error::NotReady { .. } => 1,
        }
    }
}
