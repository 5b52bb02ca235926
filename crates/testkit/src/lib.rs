//! Development only: test world, probes, stand-ins.
#![forbid(unsafe_code)]
