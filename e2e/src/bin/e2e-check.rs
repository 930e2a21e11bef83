//! Breaks a cluster at random while clients use it, and judges whether what they saw is possible: see `--help`.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    e2e::check::main(&e2e::check::Arguments::parse())
}
