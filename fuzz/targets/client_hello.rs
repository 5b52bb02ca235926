//! The opening of a TLS connection, whole and in pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rcc_gateway::fuzzing::client_hello(bytes));
