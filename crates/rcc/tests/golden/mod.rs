//! Checked-in records that a whole observation is compared with.
//!
//! Must not write anything unless `RCC_BLESS` asks for it.

use std::path::Path;

/// Fails unless `text` equals the file `golden/NAME`; shows the lines that differ.
#[track_caller]
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("RCC_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected == text {
        return;
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), text.lines().collect());
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("- {line}\n"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("+ {line}\n"));
    let difference: String = gone.chain(come).collect();
    panic!("{name} differs (RCC_BLESS=1 records it):\n{difference}");
}
