//! What a user may say: policy, rules, hosts, sizes, presets. No I/O.
#![forbid(unsafe_code)]
