//! The storage role: arguments in, `node_storage` runs, its status out.

use std::net::SocketAddr;
use std::time::Duration;

use crds::node_api::{NodeStatus, ScrubStatus, SeatStatus, StorageStatus};
use node_core::ids::StorageId;
use node_core::wire::Membership;
use node_storage::{ScrubConfig, StorageConfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::{StorageArgs, hostname, ordinal};
use crate::metrics::{Figure, FigureValue};
use crate::role::{RoleError, cancel_on_signals, serve_http, volume_mode, write_ready_file};

/// Runs a storage node until a signal.
pub(crate) fn run(args: StorageArgs) -> Result<(), RoleError> {
    // One thread moves the messages; the log, the rows and the reads have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| RoleError::System { action: "start a runtime", source })?;
    runtime.block_on(serve(args))
}

async fn serve(args: StorageArgs) -> Result<(), RoleError> {
    let id = number(&args)?;
    if args.peers.len() != usize::from(args.nodes) {
        let (given, nodes) = (args.peers.len(), args.nodes);
        let text =
            format!("--peers names {given} storage nodes, and --nodes is {nodes}: name every one of them");
        return Err(RoleError::Argument(text));
    }
    let zone = args.common.zone.clone().filter(|zone| !zone.is_empty());
    let config = StorageConfig {
        id: StorageId(id),
        listen: args.listen,
        zone: zone.clone().unwrap_or_default(),
        cluster: args.common.cluster.clone(),
        mode: volume_mode(args.common.mode),
        nodes: usize::from(args.nodes),
        peers: args.peers.clone(),
        data_dir: args.data_dir.clone(),
        scrub: ScrubConfig {
            first: Duration::from_secs(args.scrub_first_seconds),
            period: Duration::from_secs(args.scrub_period_seconds),
            bytes_per_second: args.scrub_bytes_per_second,
        },
    };
    let stop = CancellationToken::new();
    cancel_on_signals(&stop)?;
    let name = format!("{}-storage-{id}", args.common.cluster);
    let first = StorageStatus { name: name.clone(), id, zone: zone.clone(), ..StorageStatus::default() };
    let (told, heard) = watch::channel(NodeStatus::Storage(first));
    let (listen_in, listen) = watch::channel(None);
    let (status_in, status) = watch::channel(None);
    let figures = {
        let status = status.clone();
        Box::new(move || figures(status.borrow().as_ref()))
    };
    let http = serve_http(&args.common, heard.clone(), figures, None)?;
    let address = http.address;
    tokio::spawn(write_ready_file(args.common.ready_file.clone(), heard, listen.clone(), address));
    tokio::spawn(translate(status, name, zone, told, listen_in));
    let ended = node_storage::run(config, stop, status_in).await;
    http.end();
    ended.map_err(|error| RoleError::Role(Box::new(error)))
}

fn number(args: &StorageArgs) -> Result<u8, RoleError> {
    if let Some(id) = args.id {
        return Ok(id);
    }
    let host = hostname().map_err(|source| RoleError::System { action: "read the host name", source })?;
    let number = ordinal(&host).and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| {
        RoleError::Argument(format!("the host name {host} does not end in a number; use --id"))
    })
}

async fn translate(
    mut status: watch::Receiver<Option<node_storage::StorageStatus>>,
    name: String,
    zone: Option<String>,
    told: watch::Sender<NodeStatus>,
    listen: watch::Sender<Option<SocketAddr>>,
) {
    while status.changed().await.is_ok() {
        let Some(now) = status.borrow_and_update().clone() else { continue };
        listen.send_replace(now.listen);
        let member = matches!(now.membership, Membership::Member(_));
        let seats = now.seats.iter().map(|info| SeatStatus {
            seat: info.seat.0,
            epoch: info.epoch.0,
            run: format!("{:016x}", info.run.0),
            active: now.instances.iter().any(|instance| instance.run == info.run && instance.connected),
        });
        let status = StorageStatus {
            name: name.clone(),
            id: now.id.0,
            run: String::new(),
            zone: zone.clone(),
            membership: if member { 1 + now.generation } else { 0 },
            voting: now.ready(),
            settled: member,
            ready: now.ready(),
            seats: seats.collect(),
            peers: u8::try_from(now.peers_connected).unwrap_or(u8::MAX),
            refusing: now.refusing.clone(),
            scrub: scrub(&now.scrub),
        };
        told.send_replace(NodeStatus::Storage(status));
    }
}

fn scrub(status: &node_storage::ScrubStatus) -> ScrubStatus {
    ScrubStatus {
        stage: status.stage.name().to_owned(),
        passes: status.passes,
        bytes: status.bytes,
        damaged: status.log_damaged + status.tables_damaged + status.ranges_wrong,
        rows_repaired: status.rows_repaired,
        last_finding: status.last_finding.clone(),
    }
}

fn figures(status: Option<&node_storage::StorageStatus>) -> Vec<Figure> {
    let Some(status) = status else { return Vec::new() };
    let counter = |name, help, value| Figure { name, help, value: FigureValue::Counter(value) };
    let gauge = |name, help, value: u64| Figure { name, help, value: FigureValue::Gauge(value as f64) };
    let (counted, scrub) = (&status.counters, &status.scrub);
    vec![
        counter("requests", "Requests of the commit protocol handled", counted.requests),
        counter("votes", "Votes given", counted.votes),
        counter("accepts", "Votes that accepted", counted.accepts),
        counter("log_writes", "Durable writes to the accept log", counted.log_writes),
        counter("log_bytes", "Bytes written to the accept log", counted.log_bytes),
        counter("rows_transactions", "Transactions applied to the rows", counted.rows_txns),
        counter("blocks", "Blocks of rows read", counted.blocks),
        counter("fetched", "Transactions fetched from other storage nodes", counted.fetched),
        counter("readmissions", "Times the node came back with a new disk", counted.readmissions),
        counter(
            "copied_bytes",
            "Bytes of rows copied from other storage nodes by a new disk",
            counted.copied_bytes,
        ),
        counter("rows_reopened", "Times the rows were opened again after a full disk", counted.rows_reopened),
        counter("scrub_passes", "Passes of the search for damage completed", scrub.passes),
        counter("scrub_bytes", "Bytes read again and compared", scrub.bytes),
        counter("scrub_log_damaged", "Damaged segments of the accept log, replaced", scrub.log_damaged),
        counter("scrub_tables_damaged", "Damaged files of rows", scrub.tables_damaged),
        counter("scrub_ranges", "Ranges of rows compared with other storage nodes", scrub.ranges),
        counter("scrub_ranges_skipped", "Ranges that too few could compare", scrub.ranges_skipped),
        counter("scrub_ranges_wrong", "Ranges that differed here from the majority", scrub.ranges_wrong),
        counter(
            "scrub_ranges_wrong_elsewhere",
            "Ranges that differed at another storage node from the majority",
            scrub.ranges_wrong_elsewhere,
        ),
        counter("scrub_ranges_undecided", "Ranges without a majority", scrub.ranges_undecided),
        counter("scrub_rows_repaired", "Rows rewritten from the majority's", scrub.rows_repaired),
        gauge("rows_waiting", "Whether the rows wait for room on the disk", u64::from(status.rows_waiting)),
        gauge("undecided", "Undecided transactions with a record here", status.undecided as u64),
        gauge("requests_queued", "Requests waiting for the storage thread", status.requests_queued as u64),
        gauge("rows_queued", "Decided items waiting for the rows", status.rows_queued as u64),
        gauge("log_disk_bytes", "Bytes of the accept log on disk", status.log_bytes),
    ]
}
