//! The `mcluster` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    mcluster::cli::main()
}
