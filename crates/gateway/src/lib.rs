//! The gateway: DNS, verdicts, relays, audit.
#![forbid(unsafe_code)]
