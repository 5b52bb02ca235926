//! The rcc binary.
#![forbid(unsafe_code)]

fn main() {}
