//! The instance role: arguments in, `node_instance` runs, its status out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crds::node_api::{
    InstanceState, InstanceStatus, NodeStatus, Role, SeatPosition, Takeover, TakeoverReason,
};
use node_core::election::Parting;
use node_core::quorum::Mode;
use node_instance::role::{InstanceConfig, InstanceFigures, InstanceReport};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{InstanceArgs, hostname, ordinal};
use crate::http::{Resign, basic_authorization};
use crate::metrics::{Figure, FigureValue};
use crate::role::{
    RoleError, cancel_on_signals, manifest_mode, read_text, serve_http, volume_mode, write_ready_file,
};

/// What does not change while the instance runs.
struct Identity {
    name: String,
    ordinal: u16,
    tier: u8,
    zone: Option<String>,
    mode: Mode,
    manifest_mode: crds::cluster::Mode,
}

/// Runs an instance until a signal.
pub(crate) fn run(args: InstanceArgs) -> Result<(), RoleError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RoleError::System { action: "start a runtime", source })?;
    runtime.block_on(serve(args))
}

async fn serve(args: InstanceArgs) -> Result<(), RoleError> {
    let (config, identity) = configure(&args)?;
    let stop = CancellationToken::new();
    cancel_on_signals(&stop)?;
    let login = basic_authorization(&config.user, &config.password);
    let instance = node_instance::role::start(config).map_err(|error| RoleError::Role(Box::new(error)))?;
    let (report, read) = (instance.report(), instance.figures());
    let (told, heard) = watch::channel(NodeStatus::Instance(translate(&identity, &report.borrow())));
    let (listen_in, listen) = watch::channel(None);
    let figures = Box::new(move || figures(&read));
    let resign: Resign = {
        let hand_over = instance.hand_over();
        Arc::new(move |request| hand_over(request.to))
    };
    let http = serve_http(&args.common, heard.clone(), figures, Some((resign, login)))?;
    let address = http.address;
    tokio::spawn(write_ready_file(args.common.ready_file.clone(), heard, listen.clone(), address));
    tokio::spawn(follow(identity, report, told, listen_in));
    let ended = instance.serve(stop).await;
    http.end();
    ended.map_err(|error| RoleError::Role(Box::new(error)))
}

fn configure(args: &InstanceArgs) -> Result<(InstanceConfig, Identity), RoleError> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => hostname().map_err(|source| RoleError::System { action: "read the host name", source })?,
    };
    let number = ordinal(&name).ok_or_else(|| {
        RoleError::Argument(format!("the name {name} does not end in - and a number (shop-0)"))
    })?;
    let user = match &args.user_file {
        Some(file) => read_text(file)?,
        None => args.user.clone(),
    };
    let password = match (&args.password_file, &args.password) {
        (Some(file), _) => read_text(file)?,
        (None, Some(password)) => password.clone(),
        (None, None) => return Err(RoleError::Argument("a password is needed: --password-file".to_owned())),
    };
    let tier = args.tiers.iter().find(|(of, _)| *of == name).map_or(args.tier, |(_, tier)| *tier);
    let zone = args.common.zone.clone().filter(|zone| !zone.is_empty());
    let mode = volume_mode(args.common.mode);
    let config = InstanceConfig {
        cluster: args.common.cluster.clone(),
        name: name.clone(),
        ordinal: number,
        tier,
        mode,
        storage: args.storage.clone(),
        zone: zone.clone(),
        listen: args.listen.to_string(),
        user,
        password,
        database: args.database.clone(),
        cache_bytes: usize::try_from(args.cache_bytes).unwrap_or(usize::MAX),
        parameters: args.parameters.clone(),
    };
    let manifest_mode = manifest_mode(args.common.mode);
    Ok((config, Identity { name, ordinal: number, tier, zone, mode, manifest_mode }))
}

async fn follow(
    identity: Identity,
    mut report: watch::Receiver<InstanceReport>,
    told: watch::Sender<NodeStatus>,
    listen: watch::Sender<Option<SocketAddr>>,
) {
    while report.changed().await.is_ok() {
        let now = report.borrow_and_update().clone();
        listen.send_replace(now.listen);
        told.send_replace(NodeStatus::Instance(translate(&identity, &now)));
    }
}

fn translate(identity: &Identity, report: &InstanceReport) -> InstanceStatus {
    let volume = &report.volume;
    let ready = report.ready(identity.mode);
    let state = match (report.stopping, ready, volume.taking) {
        (true, ..) => InstanceState::Stopping,
        (_, true, _) => InstanceState::Available,
        (_, _, true) => InstanceState::Recovering,
        (..) if report.listen.is_some() => InstanceState::Isolated,
        (..) => InstanceState::Starting,
    };
    let known = volume.writer.as_ref();
    let epoch = volume.seat.map(|(_, epoch)| epoch).or(known.map(|(_, epoch)| *epoch));
    let position = |(seat, at): (node_core::ids::Seat, node_core::ids::Position)| SeatPosition {
        seat: seat.0,
        epoch: at.epoch.0,
        seq: at.seq.0,
    };
    let single = identity.mode == Mode::SingleMaster;
    InstanceStatus {
        name: identity.name.clone(),
        ordinal: identity.ordinal,
        run: format!("{:016x}", report.run),
        role: if volume.seat.is_some() && !report.stopping { Role::Writer } else { Role::Reader },
        mode: identity.manifest_mode,
        epoch: epoch.map_or(0, |epoch| epoch.0),
        state,
        ready,
        applied: report.applied.iter().map(position).collect(),
        lag_ms: volume.lag_us.filter(|_| volume.seat.is_none()).map(|us| us as f64 / 1000.0),
        zone: identity.zone.clone(),
        writer: known.filter(|_| single).map(|(name, _)| name.clone()),
        takeover: volume.takeover.as_ref().filter(|_| volume.seat.is_some()).map(|taken| Takeover {
            from: taken.from.clone(),
            reason: match (&taken.from, taken.reason) {
                (None, _) => TakeoverReason::FirstStart,
                (Some(_), Parting::Resigned) => TakeoverReason::Resigned,
                (Some(_), Parting::Silent) => TakeoverReason::Silent,
                (Some(_), Parting::Disconnected) => TakeoverReason::Disconnected,
            },
            milliseconds: taken.milliseconds as f64,
        }),
        tier: identity.tier,
        connections: report.connections as u64,
    }
}

fn figures(read: &InstanceFigures) -> Vec<Figure> {
    let counter = |name, help, value| Figure { name, help, value: FigureValue::Counter(value) };
    let gauge = |name, help, value: usize| Figure { name, help, value: FigureValue::Gauge(value as f64) };
    let (engine, volume) = (read.engine(), read.volume());
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    vec![
        counter("commits", "Transactions committed", of(&volume.committed)),
        counter("conflicts", "Transactions refused because another won", of(&volume.conflicts)),
        counter("reproposals", "Proposals made again after a rival", of(&volume.reproposed)),
        counter("read_indexes", "Questions for the present", of(&volume.read_indexes)),
        counter("block_reads", "Blocks of rows fetched from storage", of(&volume.blocks)),
        gauge("cache_bytes", "Bytes of cached rows", engine.cache.bytes),
    ]
}
