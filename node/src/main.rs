//! `borealis-node`: every process of a cluster, by role.
//!
//! This file parses arguments, starts logging and runs a role; the roles are in `node-storage`, `node-instance`
//! and `node-playground`.

mod args;
mod http;
mod instance;
mod metrics;
mod role;
mod storage;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::args::{Arguments, Role};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(text) = telemetry::start(&arguments.telemetry) {
        eprintln!("borealis-node: {text}");
        return ExitCode::from(2);
    }
    allow_many_open_files();
    let ended = match arguments.role {
        Role::Storage(args) => storage::run(*args).map_err(|error| (error.exit_code(), with_sources(&error))),
        Role::Instance(args) => {
            instance::run(*args).map_err(|error| (error.exit_code(), with_sources(&error)))
        }
        Role::Playground(args) => {
            node_playground::run(&args).map_err(|error| (error.exit_code(), with_sources(&error)))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            eprintln!("borealis-node: {text}");
            ExitCode::from(code)
        }
    }
}

/// Takes as many open files as this process may have: every client connection is one, and many systems begin
/// with 1,024. The playground's children inherit it.
fn allow_many_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // A system that refuses leaves the limit as it was, which is enough for a small cluster.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// An error and everything that caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
