//! Which replica of the operator works: a Lease, changed only with the `resourceVersion` that was read, so
//! that of two candidates one is refused.
//!
//! A holder is taken for dead when its record has not changed for the lease's duration **as watched from
//! here**: remote clocks are never compared. A replica that cannot renew for that long stops, and the process
//! ends. Two replicas at work at once would still be harmless: every change of a cluster's objects is a
//! repeatable server-side apply, and the writer is elected elsewhere.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long a lease is good for without being renewed.
const LEASE_SECONDS: i32 = 9;
const LEASE: Duration = Duration::from_secs(LEASE_SECONDS as u64);
/// How often it is renewed, and looked at by the others.
const RENEW: Duration = Duration::from_secs(2);
const _: () = assert!(RENEW.as_secs() * 3 < LEASE.as_secs(), "two renewals may fail");

#[derive(Debug, thiserror::Error)]
pub(crate) enum ElectionError {
    #[error("{identity} lost the lease: it is held by {holder:?}")]
    Taken { identity: String, holder: String },
    #[error("failed to renew the lease for {LEASE:?}")]
    Expired(#[source] Box<kube::Error>),
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is mine: renew it.
    Renew,
    /// Nobody holds it, or its holder is dead: take it.
    Take,
    /// Somebody else holds it.
    Stand,
}

/// Decides. `unchanged` is how long the record has been seen not to change.
fn evaluate(holder: &str, me: &str, unchanged: Duration) -> Verdict {
    if holder == me {
        Verdict::Renew
    } else if holder.is_empty() || unchanged > LEASE {
        Verdict::Take
    } else {
        Verdict::Stand
    }
}

/// One replica's part in the election.
pub(crate) struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
    seen: Option<(String, Instant)>,
}

impl Election {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Election {
        Election {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Returns true once elected, false when told to stop before.
    ///
    /// # Errors
    ///
    /// None at present: the API server's failures are waited out.
    pub(crate) async fn wait_until_elected(
        &mut self,
        stop: &CancellationToken,
    ) -> Result<bool, ElectionError> {
        let mut ticks = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                _ = ticks.tick() => {}
            }
            match self.attempt().await {
                Ok(Attempt::Held) => return Ok(true),
                Ok(Attempt::HeldBy(holder)) => info!(holder, "standing by"),
                Ok(Attempt::Raced) => {}
                Err(error) => warn!(%error, "failed to look at the lease"),
            }
        }
    }

    /// Renews until told to stop.
    ///
    /// # Errors
    ///
    /// If the lease was lost, or could not be renewed in time.
    pub(crate) async fn keep(&mut self, stop: &CancellationToken) -> Result<(), ElectionError> {
        let mut renewed = Instant::now();
        let mut ticks = tokio::time::interval(RENEW);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let started = Instant::now();
            let attempt = tokio::time::timeout(RENEW, self.attempt()).await;
            match attempt {
                Ok(Ok(Attempt::Held)) => renewed = started,
                Ok(Ok(Attempt::HeldBy(holder))) => {
                    return Err(ElectionError::Taken { identity: self.identity.clone(), holder });
                }
                Ok(Ok(Attempt::Raced)) | Err(_) if renewed.elapsed() < LEASE => {}
                Ok(Err(error)) if renewed.elapsed() < LEASE => warn!(%error, "failed to renew the lease"),
                Ok(Err(error)) => return Err(ElectionError::Expired(Box::new(error))),
                Ok(Ok(Attempt::Raced)) | Err(_) => {
                    let holder = "somebody whom this replica cannot see".to_owned();
                    return Err(ElectionError::Taken { identity: self.identity.clone(), holder });
                }
            }
        }
    }

    /// Gives the lease up, so that another replica need not wait for its end.
    pub(crate) async fn release(&mut self) {
        let released = async {
            let mut lease = self.leases.get(&self.name).await?;
            if holder_of(&lease) == self.identity {
                lease.spec.get_or_insert_default().holder_identity = Some(String::new());
                self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match tokio::time::timeout(RENEW, released).await {
            Ok(Ok(())) => info!("released the lease"),
            Ok(Err(error)) => warn!(%error, "failed to release the lease"),
            Err(_) => warn!("failed to release the lease in time"),
        }
    }

    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.renewed(&LeaseSpec::default(), Verdict::Take)),
            };
            return taken(self.leases.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let unchanged = match &self.seen {
            Some((seen, since)) if *seen == version => since.elapsed(),
            Some(_) | None => {
                self.seen = Some((version, Instant::now()));
                Duration::ZERO
            }
        };
        let holder = holder_of(&lease);
        let verdict = evaluate(&holder, &self.identity, unchanged);
        match verdict {
            Verdict::Stand => Ok(Attempt::HeldBy(holder)),
            Verdict::Renew | Verdict::Take => {
                let spec = self.renewed(lease.spec.as_ref().unwrap_or(&LeaseSpec::default()), verdict);
                // The metadata carries the resourceVersion that was read: a change in between is refused.
                let lease = Lease { metadata: lease.metadata, spec: Some(spec) };
                taken(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
            }
        }
    }

    fn renewed(&self, old: &LeaseSpec, verdict: Verdict) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let taking = verdict == Verdict::Take;
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(now.clone()),
            acquire_time: if taking { Some(now) } else { old.acquire_time.clone() },
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(taking)),
            ..old.clone()
        }
    }
}

enum Attempt {
    Held,
    HeldBy(String),
    /// Somebody changed the lease between reading and writing: look again.
    Raced,
}

fn taken(result: Result<Lease, kube::Error>) -> Result<Attempt, kube::Error> {
    match result {
        Ok(_) => Ok(Attempt::Held),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Attempt::Raced),
        Err(error) => Err(error),
    }
}

fn holder_of(lease: &Lease) -> String {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_renews_however_late() {
        assert_eq!(evaluate("a", "a", LEASE * 3), Verdict::Renew);
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        assert_eq!(evaluate("", "a", Duration::ZERO), Verdict::Take);
    }

    #[test]
    fn a_living_holder_is_left_alone_and_a_dead_one_replaced() {
        assert_eq!(evaluate("b", "a", LEASE), Verdict::Stand);
        assert_eq!(evaluate("b", "a", LEASE + Duration::from_millis(1)), Verdict::Take);
    }
}
