//! The network corpus: one table of what a sandbox's network must carry and must refuse, by protocol, family, form of the name,
//! parser trick, kind of answer and kind of rule. Each case runs with the real program and a real client.
//!
//! Every refusal has its control: the same client outside of the sandbox does reach the listener. Inside it is refused in the
//! form that its protocol knows, at once, with exactly its lines in the audit log, and the listener sees no byte.
//!
//! Must not hold cases: they stand in the tables of `network_corpus/`.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test program")]

#[path = "world/mod.rs"]
mod hermetic;
mod support;

#[path = "network_corpus/addresses.rs"]
mod addresses;
#[path = "network_corpus/case.rs"]
mod case;
#[path = "network_corpus/clients.rs"]
mod clients;
#[path = "network_corpus/hello.rs"]
mod hello;
#[path = "network_corpus/names.rs"]
mod names;
#[path = "network_corpus/resolving.rs"]
mod resolving;
#[path = "network_corpus/rules.rs"]
mod rules;
#[path = "network_corpus/runner.rs"]
mod runner;
#[path = "network_corpus/servers.rs"]
mod servers;
#[path = "network_corpus/tricks.rs"]
mod tricks;

use std::collections::BTreeMap;
use std::io::Write as _;

use case::Group;
use rcc_testkit::world::{User, World, WorldConfig};
use servers::Servers;

fn groups() -> Vec<Group> {
    [
        names::groups(),
        addresses::groups(),
        tricks::groups(),
        resolving::groups(),
        rules::groups(),
        clients::groups(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs groups in one world and fails with everything that was not as the tables say.
fn check(world: &World, groups: &[Group]) {
    let servers = Servers::start(world);
    let mut failures = Vec::new();
    for group in groups {
        failures.extend(runner::run(world, group));
    }
    drop(servers);
    let count = failures.len();
    assert!(
        failures.is_empty(),
        "{count} cases are not as the table says\n\n{}",
        failures.join("\n\n")
    );
}

/// Prints how many cases there are of each kind; the handle, not the macro: the harness swallows what the macros print.
fn tell(label: &str, groups: &[Group]) {
    let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for case in groups.iter().flat_map(|group| &group.cases) {
        let count = counts.entry(case.kind).or_default();
        if case.is_refused() {
            count.1 += 1;
        } else {
            count.0 += 1;
        }
    }
    let total: u32 = counts
        .values()
        .map(|(allowed, refused)| allowed + refused)
        .sum();
    let parts: Vec<String> = counts
        .iter()
        .map(|(kind, (allowed, refused))| format!("{kind} {allowed}+{refused}"))
        .collect();
    let line = format!(
        "network corpus, {label}: {total} cases (allowed+refused): {}\n",
        parts.join(", ")
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Every case of one table, in a world of its own: the tables run side by side.
fn table(label: &str, mut groups: Vec<Group>) {
    let config = if rustix::process::geteuid().is_root() {
        WorldConfig::default().user(User::ordinary())
    } else {
        WorldConfig::default()
    };
    let Some(world) = World::with_or_skip(config) else {
        return;
    };
    // For working on one table: part of a group's name.
    let only = std::env::var("RCC_CORPUS_ONLY").unwrap_or_default();
    groups.retain(|group| group.name.contains(&only));
    check(&world, &groups);
    tell(&format!("ordinary user, {label}"), &groups);
}

#[test]
fn names_are_decided_as_the_table_says() {
    table("names", names::groups());
}

#[test]
fn addresses_are_decided_as_the_table_says() {
    table("addresses", addresses::groups());
}

#[test]
fn tricks_are_decided_as_the_table_says() {
    table("tricks", tricks::groups());
}

#[test]
fn resolving_is_decided_as_the_table_says() {
    table("resolving", resolving::groups());
}

#[test]
fn rules_are_decided_as_the_table_says() {
    table("rules", rules::groups());
}

#[test]
fn clients_are_decided_as_the_table_says() {
    table("clients", clients::groups());
}

#[test]
fn root_is_under_the_same_rules() {
    if !rcc_testkit::require("root") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    // Other namespaces, the same gateway: one case of each kind, allowed and refused, per group.
    let mut groups = groups();
    for group in &mut groups {
        let mut seen = std::collections::BTreeSet::new();
        group
            .cases
            .retain(|case| seen.insert((case.kind, case.is_refused())));
    }
    check(&world, &groups);
    tell("root", &groups);
}

#[test]
fn a_form_of_a_name_in_a_rule_means_what_it_means_elsewhere() {
    let world = hermetic::World::new();
    for (form, bytes, is_same) in names::in_rules() {
        let why = ["--network", "allowlist", "--why", "allowed.example:443"];
        let text = std::str::from_utf8(bytes).unwrap();
        let rule = match text.contains('\0') {
            // No argument can hold it.
            true => {
                world.file("project/hosts.conf", format!("{text}\n"));
                ["plan", "-a", "hosts.conf"]
            }
            false => ["plan", "--allow", text],
        };
        let mut command = world.rcc(rule);
        let output = command.args(why).output().unwrap();
        // 0: allowed; 1: refused; 125: not a rule.
        let code = output.status.code().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!([0, 1, 125].contains(&code), "{form}: {code} {text}");
        assert_eq!(code == 0, is_same, "{form}: {code} {text}");
    }
}

#[test]
fn the_table_is_large_and_its_names_differ() {
    let groups = groups();
    let cases: Vec<_> = groups.iter().flat_map(|group| &group.cases).collect();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases share a name");
}
