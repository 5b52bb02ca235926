//! Random policies and questions, few names and addresses so that they meet often.

use super::*;
use crate::ruleset_strategies::{
    any_address, any_name, any_policy, any_port, any_protocol, any_rule,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn names_are_decided_as_the_reference_does(
        policy in any_policy(), name in any_name(), port in any_port(), protocol in any_protocol()
    ) {
        let name = host(&name);
        let verdict = RuleSet::compile(&policy).decide_name(&name, port, protocol);
        prop_assert_eq!(verdict.decision, reference::decide_name(&policy, &name, port, protocol));
        if verdict.is_allow() {
            prop_assert_eq!(verdict.checks, reference::checks_of_name(&policy, &name, port, protocol));
        }
        if let Some(text) = verdict.rule {
            // The rule that is named exists, with its origin, and speaks of the name.
            let mut all = policy.deny.iter().chain(&policy.allow);
            prop_assert!(all.any(|rule| RuleText::from(rule) == text && rule.target.matches_name(&name)));
        }
    }

    #[test]
    fn addresses_are_decided_as_the_reference_does(
        policy in any_policy(), address in any_address(), port in any_port(), protocol in any_protocol()
    ) {
        let verdict = RuleSet::compile(&policy).decide_address(address, port, protocol);
        prop_assert_eq!(verdict.decision, reference::decide_address(&policy, address, port, protocol));
    }

    #[test]
    fn what_no_rule_names_on_purpose_is_never_reached_unless_public(
        policy in any_policy(), address in any_address(), port in any_port(), protocol in any_protocol(),
        host_addresses in prop::collection::vec(any_address(), 0..3)
    ) {
        let set = RuleSet::compile(&policy);
        let verdict = set.check_resolved(address, port, protocol, &Verdict::allow(), &host_addresses);
        if verdict.is_allow() && verdict.rule.is_none() {
            prop_assert!(AddressClass::of(address).is_public());
            prop_assert!(!host_addresses.iter().any(|&host| canonical_address(host) == canonical_address(address)));
        }
        let never = [AddressClass::Loopback, AddressClass::Unspecified, AddressClass::Multicast, AddressClass::Broadcast];
        if never.contains(&AddressClass::of(address)) {
            prop_assert!(!verdict.is_allow());
        }
    }

    #[test]
    fn deny_beats_allow(policy in any_policy(), rule in any_rule(Effect::Deny), name in any_name(), address in any_address(), port in any_port(), protocol in any_protocol()) {
        let mut policy = policy;
        policy.deny.push(rule.clone());
        let set = RuleSet::compile(&policy);
        let name = host(&name);
        if rule.covers_name(&name, port, protocol) {
            prop_assert!(!set.decide_name(&name, port, protocol).is_allow());
        }
        if rule.covers_address(canonical_address(address), port, protocol) {
            prop_assert!(!set.decide_address(address, port, protocol).is_allow());
            prop_assert!(!set.check_resolved(address, port, protocol, &Verdict::allow(), &[]).is_allow());
        }
    }

    #[test]
    fn a_rule_for_one_thing_allows_nothing_else(rule in any_rule(Effect::Allow), name in any_name(), address in any_address(), port in any_port(), protocol in any_protocol()) {
        let mut policy = NetworkPolicy::new(NetworkMode::Allowlist);
        policy.push(rule.clone());
        let set = RuleSet::compile(&policy);
        let name = host(&name);
        if set.decide_name(&name, port, protocol).is_allow() {
            prop_assert!(rule.covers_name(&name, port, protocol));
        }
        if set.decide_address(address, port, protocol).is_allow() {
            prop_assert!(rule.covers_address(canonical_address(address), port, protocol));
        }
        if set.may_resolve(&name).is_allow() {
            prop_assert!(rule.target.matches_name(&name));
        }
    }

    /// Who is let through and what is looked at are two questions.
    #[test]
    fn raw_changes_no_decision(policy in any_policy(), name in any_name(), address in any_address(), port in any_port(), protocol in any_protocol()) {
        let mut checked = policy.clone();
        for rule in &mut checked.allow {
            rule.checks = Checks::ByName;
        }
        let (set, checked) = (RuleSet::compile(&policy), RuleSet::compile(&checked));
        let name = host(&name);
        let (one, other) = (set.decide_name(&name, port, protocol), checked.decide_name(&name, port, protocol));
        prop_assert_eq!(one.decision, other.decision);
        prop_assert_eq!(other.checks, Checks::ByName);
        prop_assert_eq!(set.decide_address(address, port, protocol).decision, checked.decide_address(address, port, protocol).decision);
        prop_assert_eq!(set.may_resolve(&name).decision, checked.may_resolve(&name).decision);
        // The address behind the name opens no more than the name's rules do.
        prop_assert_eq!(set.check_resolved(address, port, protocol, &one, &[]).checks, if one.is_allow() && set.check_resolved(address, port, protocol, &one, &[]).is_allow() { one.checks } else { Checks::ByName });
    }

    #[test]
    fn look_ups_are_decided_as_the_reference_does(policy in any_policy(), name in any_name()) {
        let name = host(&name);
        let expected = reference::may_resolve(&policy, &name, &[1, 2, 3, 4, 5, 6, 80, 81, 443, 444, 65535]);
        prop_assert_eq!(RuleSet::compile(&policy).may_resolve(&name).is_allow(), expected);
    }
}
