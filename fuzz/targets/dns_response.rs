//! A DNS message from a resolver of the host.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rcc_gateway::fuzzing::dns_response(bytes));
