//! What `rcc-probe` prints, for tests to read.
