//! Reads the host: facts, state directories, trust store.
#![forbid(unsafe_code)]
