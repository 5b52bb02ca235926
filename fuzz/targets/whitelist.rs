//! A YAML whitelist: every rule in it prints as a rule.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcc_spec::{Origin, Rule, SourceName, parse_whitelist};

fuzz_target!(|text: &str| {
    if let Ok(file) = parse_whitelist(text, &SourceName::file("whitelist.yaml")) {
        for rule in &file.allow {
            Rule::parse(&rule.to_string(), Origin::flag("--allow")).expect("a rule prints as one");
        }
    }
});
