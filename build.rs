//! Has the addresses of programs packed, where the C library that it is linked with reads such.
//!
//! A program that may lie anywhere has each address in its tables told to the loader in 24 bytes;
//! packed they are a bit or so, a twentieth of the whole file. glibc reads them from 2.36 on.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name| std::env::var(name).unwrap_or_default();
    let native = variable("HOST") == variable("TARGET");
    if native && variable("CARGO_CFG_TARGET_ENV") == "gnu" && glibc() >= Some((2, 36)) {
        for what in ["bins", "examples"] {
            println!("cargo::rustc-link-arg-{what}=-Wl,-z,pack-relative-relocs");
        }
    }
}

/// The version of this machine's C library, where it says so.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = String::from_utf8(said.ok()?.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
