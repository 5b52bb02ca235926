//! A QUIC datagram, and the frames of an opened Initial packet.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rcc_gateway::fuzzing::quic(bytes));
