//! Tests against a real Kubernetes: `e2e/run.sh` brings one up where there is none, installs the operator and
//! breaks clusters. This crate is the client that it runs, in a pod and outside.
