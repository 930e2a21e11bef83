//! `e2e-check`: clients and faults on a real cluster, and the verdict about what the clients saw.
//!
//! One seed decides what is broken, when and for how long ([`faults`]), and what each client does. Time decides the
//! rest: a seed gives the same faults again, not the same history. A run makes its tables, lets clients work while
//! faults come ([`run`]), mends everything, reads what is there, and judges ([`verdict`], [`crate::history`]).

mod args;
mod clients;
mod cluster;
mod connect;
mod end;
mod faults;
mod random;
mod run;
mod shared;
mod verdict;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;

pub use args::Arguments;
pub use cluster::ClusterError;

use crate::history::lists::{self, History};
use args::{KubernetesArgs, Mode, PlaygroundArgs, RunArgs, Target};
use cluster::kubernetes::Kubernetes;
use cluster::playground::{Form, Playground};
use faults::FaultKind;

/// A check that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The cluster.
    #[error("the cluster")]
    Cluster(#[source] ClusterError),
    /// The database, before anything was broken or after all was mended.
    #[error("cannot {what}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: mysql::Error,
    },
    /// What is there at the end differs each time it is read.
    #[error("what instances show at the end does not settle: {what}")]
    Unsettled {
        /// What differs.
        what: String,
    },
    /// A fault that the target does not allow.
    #[error("{fault} is not possible here: {why}")]
    Fault {
        /// Which.
        fault: &'static str,
        /// What would have to be different.
        why: &'static str,
    },
    /// A file.
    #[error("cannot use {path:?}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A history that is none.
    #[error("{path:?} is not a history that this program has written")]
    History {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
}

/// Does what the command line says.
pub fn main(arguments: &Arguments) -> ExitCode {
    let clean = match &arguments.target {
        Target::Playground(args) => playground(args),
        Target::Kubernetes(args) => kubernetes(args),
        Target::History { file } => history(file),
    };
    match clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let mut text = format!("e2e-check: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text += &format!(": {cause}");
                source = cause.source();
            }
            say(&text);
            ExitCode::from(2)
        }
    }
}

/// Prints a line. Whoever closed the pipe does not want to read it.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn playground(args: &PlaygroundArgs) -> Result<bool, CheckError> {
    let node = match &args.node {
        Some(node) => node.clone(),
        None => sibling("borealis-node")?,
    };
    // Nobody loses a disk of a playground of their own without asking for it.
    let possible = FaultKind::value_variants().iter().copied();
    let possible: Vec<FaultKind> =
        possible.filter(|kind| args.data_dir.is_none() || *kind != FaultKind::LoseDisk).collect();
    let kinds = chosen(&args.run, &possible);
    let playground = match &args.data_dir {
        Some(data) => Playground::attach(&node, data),
        None => Playground::start(&Form {
            node,
            single_master: args.mode == Mode::SingleMaster,
            instances: args.instances,
            storage_nodes: args.storage_nodes,
            cuttable: faults::needs_cuts(&kinds),
            cache_bytes: args.cache_bytes,
        }),
    };
    let playground = playground.map_err(CheckError::Cluster)?;
    if faults::needs_cuts(&kinds) && !playground.is_cuttable() {
        let why = "the playground was started without --cuttable; choose others with --faults";
        return Err(CheckError::Fault { fault: "a cut", why });
    }
    let clean = run::run(&playground, &kinds, &args.run);
    if !matches!(clean, Ok(true)) {
        say(&format!("logs of the processes: {}", playground.logs().display()));
        if args.keep {
            say(&format!("left running: playground status --data-dir {}", playground.keep().display()));
        }
    }
    clean
}

fn kubernetes(args: &KubernetesArgs) -> Result<bool, CheckError> {
    const POSSIBLE: [FaultKind; 7] = [
        FaultKind::KillInstance,
        FaultKind::StopInstance,
        FaultKind::KillStorage,
        FaultKind::StopStorage,
        FaultKind::Zone,
        FaultKind::Quorum,
        FaultKind::All,
    ];
    let kinds = chosen(&args.run, &POSSIBLE);
    if let Some(kind) = kinds.iter().find(|kind| !POSSIBLE.contains(kind)) {
        return Err(CheckError::Fault { fault: kind.name(), why: "pods can only be deleted" });
    }
    let cluster =
        Kubernetes::new(&args.namespace, &args.cluster, args.through).map_err(CheckError::Cluster)?;
    run::run(&cluster, &kinds, &args.run)
}

fn history(file: &Path) -> Result<bool, CheckError> {
    let path = || file.to_path_buf();
    let bytes = std::fs::read(file).map_err(|source| CheckError::File { path: path(), source })?;
    let history: History =
        serde_json::from_slice(&bytes).map_err(|source| CheckError::History { path: path(), source })?;
    let anomalies = lists::check(&history);
    anomalies.iter().for_each(|anomaly| say(&anomaly.to_string()));
    say(&format!("{} transactions, {} anomalies", history.transactions.len(), anomalies.len()));
    Ok(anomalies.is_empty())
}

fn chosen(args: &RunArgs, possible: &[FaultKind]) -> Vec<FaultKind> {
    match (args.no_faults, args.faults.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => possible.to_vec(),
        (false, false) => args.faults.clone(),
    }
}

/// A program in the directory of this one.
fn sibling(name: &str) -> Result<PathBuf, CheckError> {
    let own = std::env::current_exe().map_err(|source| CheckError::File { path: name.into(), source })?;
    Ok(own.with_file_name(name))
}
