//! A policy file of each kind; what a project may not say is refused in a project.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcc_spec::{LayerKind, SourceName, parse_toml};

fuzz_target!(|text: &str| {
    let source = SourceName::file("rcc.toml");
    let admin = parse_toml(text, &source, LayerKind::Admin);
    let project = parse_toml(text, &source, LayerKind::Project);
    if let Ok(project) = project {
        assert!(project.ceiling_mode.is_none());
        assert_eq!(
            Some(&project),
            admin.as_ref().ok(),
            "the administrator may say more, not less"
        );
    }
});
