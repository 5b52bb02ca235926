//! Pages under `docs/` that are generated from code: compared in tests, rewritten when `RCC_UPDATE_DOCS` is set.

/// Compares a generated page with the one in the repository.
pub(crate) fn check(name: &str, expected: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name);
    if std::env::var_os("RCC_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/{name} is stale: run RCC_UPDATE_DOCS=1 cargo test -p rcc"
    );
}
