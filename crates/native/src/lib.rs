//! The native engine.
#![forbid(unsafe_code)]
