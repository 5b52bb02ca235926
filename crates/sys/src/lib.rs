//! The only unsafe code: system calls behind a safe interface. No policy.
