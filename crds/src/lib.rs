//! The shapes that the operator, the playground, the node and the user share: data, its validation and its
//! names. Nothing here talks to anybody.
//!
//! Without the feature `k8s` this crate knows the manifest ([`cluster`], [`manifest`]) and the node's HTTP
//! interface ([`node_api`]); with it, also the custom resource ([`resource`]) and its status ([`status`]).

pub mod cluster;
pub mod conditions;
pub mod manifest;
pub mod names;
pub mod node_api;
#[cfg(feature = "k8s")]
pub mod resource;
pub mod rules;
#[cfg(feature = "k8s")]
pub mod status;
pub mod validate;
