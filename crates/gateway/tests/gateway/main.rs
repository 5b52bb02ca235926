//! The gateway as a whole, on ordinary loopback sockets: no privilege, no packet to any other machine.
//!
//! `world` makes a gateway whose transport presents connections "to" any address and maps public-looking addresses to local servers;
//! every other address that the gateway would dial is recorded and goes nowhere.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests: a broken test must fail loudly"
)]

mod connections;
mod control;
mod dns;
mod hostile;
mod http;
mod live;
mod names;
mod refusals;
mod resolution;
mod transfers;
mod world;
