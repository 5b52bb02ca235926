//! How long tests wait: their limits, stretched for a machine that is slow as a whole.
//!
//! What rcc promises in milliseconds is stretched there as well: an emulated processor shows that nothing waits for a
//! time-out, the other runs show the promise itself.

use std::time::Duration;

/// A whole number by which every limit is multiplied; 1 when it is absent.
const PATIENCE_VARIABLE: &str = "RCC_TEST_PATIENCE";

/// Gives a limit as this machine needs it: a processor that QEMU emulates takes ten to twenty times as long.
///
/// # Panics
/// When `RCC_TEST_PATIENCE` is set and no whole number from 1 to 1000.
#[must_use]
pub fn patience(time: Duration) -> Duration {
    let factor = std::env::var(PATIENCE_VARIABLE).map_or(1, |text| {
        text.parse()
            .ok()
            .filter(|factor| (1..=1000).contains(factor))
            .expect("RCC_TEST_PATIENCE is a whole number from 1 to 1000")
    });
    time * factor
}

/// The same for a limit in milliseconds, the unit of the probes.
///
/// # Panics
/// As [`patience`].
#[must_use]
pub fn patience_ms(milliseconds: u32) -> f64 {
    patience(Duration::from_millis(milliseconds.into())).as_secs_f64() * 1000.0
}
