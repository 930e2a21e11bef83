//! Tells instances who holds which seat and who is here, and keeps the low-water mark moving.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use node_core::ids::{RunId, Vector};
use node_core::wire::{InstanceInfo, Reply, Role, SeatInfo, Wire};

use crate::shared::Shared;

/// How often silence is looked for while somebody is connected.
const TICK: Duration = Duration::from_millis(50);
/// How often positions are told although nothing else changed.
const REFRESH: Duration = Duration::from_millis(500);

/// What is told at once when it changes.
#[derive(PartialEq, Eq)]
struct Standing {
    seats: Vec<SeatInfo>,
    instances: Vec<(RunId, Role, bool)>,
}

impl Standing {
    fn of(seats: &[SeatInfo], instances: &[InstanceInfo]) -> Standing {
        let instances = instances.iter().map(|info| (info.run, info.role, info.connected)).collect();
        Standing { seats: seats.to_vec(), instances }
    }
}

/// Runs until the task is dropped.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let mut told: Option<(Standing, Instant)> = None;
    let mut collected = (Vector::new(), Instant::now());
    loop {
        let idle = shared.instances.lock().is_empty();
        if idle && *shared.low.lock() == shared.feed.end() {
            shared.topology_changed.notified().await;
        } else {
            // Either is fine: a change, or the time for another look.
            drop(tokio::time::timeout(TICK, shared.topology_changed.notified()).await);
        }
        let now = Instant::now();
        shared.reads.expire(now);
        let (infos, connections, low) = {
            let mut instances = shared.instances.lock();
            instances.expire(now);
            let low = instances.low(&shared.feed.end(), now).clone();
            (instances.infos(now), instances.connections(), low)
        };
        let low = shared.reads.hold(&low);
        if *shared.low.lock() != low {
            *shared.low.lock() = low.clone();
            shared.feed.set_low(&low);
        }
        if collected.0 != low && now - collected.1 >= REFRESH {
            collected = (low, now);
            shared.rows_queue.collect();
        }
        let seats = shared.seats.lock().clone();
        let standing = Standing::of(&seats, &infos);
        let silence = infos.iter().any(|info| info.connected && info.silent_ms > 0);
        let due = match &told {
            None => true,
            Some((before, at)) => *before != standing || silence || now - *at >= REFRESH,
        };
        if due {
            told = Some((standing, now));
            let mut message = BytesMut::new();
            Reply::Topology { seats, instances: infos }.put(&mut message);
            for connection in connections {
                let _ = connection.sender.send_encoded(&message);
            }
        }
    }
}
