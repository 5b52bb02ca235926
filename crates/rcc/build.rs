//! Links the released program statically where this system has what it takes: the dynamic loader costs 0.2 ms of each of the
//! two starts of a program that a run makes.
//!
//! `-C target-feature=+crt-static` says the same to the compiler, but Cargo cannot give it to one program: without `--target`
//! it reaches the procedural macros, which are loaded and must not be static. So the libraries that the compiler names are
//! found in our own directory first, as scripts of the linker that name their static halves (`ld(1)`, implicit linker
//! scripts). The result is position-independent as before.
//!
//! Should: leave everything as it is when in doubt, and when the builder has flags or a linker of its own (`RUSTFLAGS`, as
//! distributions do); the program then needs the system's C library at run time, no more.
//! Mustn't: touch tests and development builds.
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the compiler's standard library is linked with, and what stands for it.
const LIBRARIES: [(&str, &[&str]); 7] = [
    ("gcc_s", &["libgcc_eh.a", "libgcc.a"]),
    ("c", &["libc.a", "libgcc_eh.a", "libgcc.a"]),
    ("m", &["libm.a"]),
    ("rt", &["librt.a"]),
    ("pthread", &["libpthread.a"]),
    ("util", &["libutil.a"]),
    ("dl", &["libdl.a"]),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    let usual = is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && env::var("HOST") == env::var("TARGET")
        && env::var("RUSTC_LINKER").is_err()
        && is("CARGO_ENCODED_RUSTFLAGS", "");
    if !usual || scripts().is_none() {
        return;
    }
    let directory = env::var("OUT_DIR").unwrap_or_default();
    println!("cargo::rustc-link-arg-bins=-L{directory}");
    println!("cargo::rustc-link-arg-bins=-static-pie");
}

/// Writes the scripts; none when something is missing here.
fn scripts() -> Option<()> {
    let directory = PathBuf::from(env::var_os("OUT_DIR")?);
    // What a position-independent static program begins with.
    found("rcrt1.o")?;
    for (name, archives) in LIBRARIES {
        let paths: Vec<String> = archives
            .iter()
            .map(|archive| found(archive))
            .collect::<Option<_>>()?;
        let script = format!("GROUP ( {} )\n", paths.join(" "));
        fs::write(directory.join(format!("lib{name}.so")), script).ok()?;
    }
    Some(())
}

/// Where the C compiler, which is the linker, has a file.
fn found(name: &str) -> Option<String> {
    let mut compiler = Command::new("cc");
    let output = compiler
        .arg(format!("-print-file-name={name}"))
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    let path = path.trim();
    // It repeats the name of what it does not have.
    let plain = !path.contains(|character: char| character.is_whitespace() || character == '"');
    (Path::new(path).is_absolute() && Path::new(path).exists() && plain).then(|| path.to_owned())
}
