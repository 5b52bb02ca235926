//! A DNS message from the sandbox, up to the bytes of its answer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rcc_gateway::fuzzing::dns_query(bytes));
