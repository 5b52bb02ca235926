//! A line on the control socket.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rcc_gateway::fuzzing::control(bytes));
