//! A rule that parses prints as a text that parses to the same rule.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcc_spec::{Origin, Rule};

fuzz_target!(|text: &str| {
    let origin = Origin::flag("--allow");
    if let Ok(rule) = Rule::parse(text, origin.clone()) {
        assert_eq!(Rule::parse(&rule.to_string(), origin).as_ref(), Ok(&rule));
    }
});
