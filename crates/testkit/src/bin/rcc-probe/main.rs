//! `rcc-probe NAME [ARGUMENTS]`: tries one thing and prints one JSON line that says how it ended.
#![forbid(unsafe_code)]

fn main() {}
