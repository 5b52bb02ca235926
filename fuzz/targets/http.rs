//! What a client says on a plain HTTP connection, whole and in pieces; and what a server answers.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rcc_gateway::fuzzing::http(bytes));
