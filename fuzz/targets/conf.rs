//! A rule file that parses is, line by line from its printed rules, the same file again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rcc_spec::{Rule, SourceName, parse_conf};

fuzz_target!(|text: &str| {
    let source = SourceName::file("hosts.conf");
    let Ok(file) = parse_conf(text, &source) else {
        return;
    };
    let mut printed = String::new();
    for rule in file.deny.iter().chain(&file.allow) {
        printed.push_str(if file.deny.contains(rule) {
            "deny "
        } else {
            ""
        });
        printed.push_str(&rule.to_string());
        printed.push('\n');
    }
    let again = parse_conf(&printed, &source).expect("printed rules are rules");
    let plain = |rules: &[Rule]| rules.iter().map(Rule::to_string).collect::<Vec<_>>();
    assert_eq!(plain(&file.allow), plain(&again.allow));
    assert_eq!(plain(&file.deny), plain(&again.deny));
});
