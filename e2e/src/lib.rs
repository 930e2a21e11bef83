//! Tests of whole clusters from outside, as applications see them: over MySQL connections.
//!
//! `e2e/run.sh` brings a Kubernetes up where there is none, installs the operator and breaks clusters; `e2e-client` is
//! the client that it runs, in a pod and outside. `e2e-check` breaks a cluster, a playground or one on Kubernetes, at
//! random for minutes and judges whether what its clients saw is possible ([`history`]).

pub mod check;
pub mod history;
