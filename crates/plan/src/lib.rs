//! Pure planning: (policy, host facts) to plan. No I/O.
#![forbid(unsafe_code)]
