//! Which crate may depend on which: the edge table, held against `cargo metadata`.
//!
//! `spec <- plan <- {host, native, engines, gateway} <- rcc` and `sys <- {host, native, gateway}`. Siblings never see
//! each other, and nothing that is shipped reaches a development crate, not even through a third one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::Report;
use crate::workspace::{Metadata, Workspace};

/// Crate -> workspace crates that it may depend on. A crate that is not here is a problem too.
const EDGES: &[(&str, &[&str])] = &[
    ("rcc-spec", &[]),
    ("rcc-sys", &[]),
    ("rcc-plan", &["rcc-spec"]),
    ("rcc-host", &["rcc-plan", "rcc-spec", "rcc-sys"]),
    ("rcc-native", &["rcc-plan", "rcc-spec", "rcc-sys"]),
    ("rcc-gateway", &["rcc-plan", "rcc-spec", "rcc-sys"]),
    ("rcc-engines", &["rcc-plan", "rcc-spec"]),
    (
        "rcc",
        &[
            "rcc-engines",
            "rcc-gateway",
            "rcc-host",
            "rcc-native",
            "rcc-plan",
            "rcc-spec",
            "rcc-sys",
        ],
    ),
    ("rcc-testkit", &["rcc-spec", "rcc-sys"]),
    ("xtask", &["rcc-testkit"]),
];

/// Never part of what is shipped; the first may be a dev-dependency of anybody.
const DEVELOPMENT: [&str; 2] = ["rcc-testkit", "xtask"];

/// The shipped package.
const SHIPPED: &str = "rcc";

/// Outside packages that only the named crates may use, because their presence would break what a crate promises:
/// one async crate, one crate with raw system calls, no system calls below `host`.
const RESERVED: &[(&str, &[&str])] = &[
    ("tokio", &["rcc-gateway", "rcc-testkit"]),
    ("landlock", &["rcc-native", "rcc-sys"]),
    ("seccompiler", &["rcc-native", "rcc-sys"]),
    ("anyhow", &["rcc-testkit", "xtask"]),
];

/// Crates without side effects, and the outside packages that would give them some.
const PURE: [&str; 2] = ["rcc-spec", "rcc-plan"];
const EFFECTS: [&str; 6] = ["libc", "nix", "rustix", "tokio", "mio", "socket2"];

/// The gate.
pub(super) fn check(workspace: &Workspace) -> Result<Report> {
    Ok(judge(&workspace.metadata()?))
}

fn judge(metadata: &Metadata) -> Report {
    let mut report = Report::default();
    let members = metadata.members();
    for (name, package) in &members {
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| known == name) else {
            report.problem(format!(
                "crate {name} is not in the edge table of this gate"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let other = dependency.name.as_str();
            let for_tests = dependency.kind.as_deref() == Some("dev");
            if members.contains_key(other) {
                let testkit_in_tests = for_tests && other == DEVELOPMENT[0];
                if !allowed.contains(&other) && !testkit_in_tests {
                    report.problem(format!("{name} -> {other}: this edge is forbidden"));
                }
            }
            if for_tests {
                continue;
            }
            if let Some((_, users)) = RESERVED.iter().find(|(package, _)| *package == other)
                && !users.contains(name)
            {
                report.problem(format!(
                    "{name} -> {other}: only {} may use it",
                    users.join(" and ")
                ));
            }
            if PURE.contains(name) && EFFECTS.contains(&other) {
                report.problem(format!("{name} -> {other}: {name} has no side effects"));
            }
        }
    }
    let shipped = reachable(metadata, SHIPPED);
    for name in DEVELOPMENT {
        if shipped.contains(name) {
            report.problem(format!(
                "{SHIPPED} reaches {name}, which is for development only"
            ));
        }
    }
    let outside = shipped
        .iter()
        .filter(|name| !members.contains_key(*name))
        .count();
    report.note(format!(
        "{} crates of ours; {SHIPPED} is built from {outside} packages of others",
        members.len()
    ));
    report
}

/// Names of all packages that a package is built from: normal and build dependencies, transitively.
fn reachable<'a>(metadata: &'a Metadata, from: &str) -> BTreeSet<&'a str> {
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let edges: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let built_in = node.deps.iter().filter(|dependency| {
                dependency
                    .dep_kinds
                    .iter()
                    .any(|kind| kind.kind.as_deref() != Some("dev"))
            });
            (
                node.id.as_str(),
                built_in.map(|dependency| dependency.pkg.as_str()).collect(),
            )
        })
        .collect();
    let mut pending: Vec<&str> = names
        .iter()
        .filter(|(_, name)| **name == from)
        .map(|(id, _)| *id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = pending.pop() {
        if seen.insert(id) {
            pending.extend(edges.get(id).into_iter().flatten());
        }
    }
    seen.iter()
        .filter_map(|id| names.get(id).copied())
        .filter(|name| *name != from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A workspace in which every `(from, to, kind)` is an edge.
    fn world(edges: &[(&str, &str, Option<&str>)]) -> Metadata {
        let names: BTreeSet<&str> = edges
            .iter()
            .flat_map(|(from, to, _)| [*from, *to])
            .collect();
        let of = |name: &str| {
            edges
                .iter()
                .filter(move |(from, ..)| *from == name)
                .collect::<Vec<_>>()
        };
        let ours = |name: &str| name == "rcc" || name == "xtask" || name.starts_with("rcc-");
        let packages: Vec<Value> = names
            .iter()
            .map(|name| {
                let dependencies: Vec<Value> =
                    of(name).iter().map(|(_, to, kind)| json!({"name": to, "kind": kind})).collect();
                json!({"id": name, "name": name, "manifest_path": "", "dependencies": dependencies, "targets": []})
            })
            .collect();
        let nodes: Vec<Value> = names
            .iter()
            .map(|name| {
                let deps: Vec<Value> = of(name)
                    .iter()
                    .map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]}))
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<&&str> = names.iter().filter(|name| ours(name)).collect();
        serde_json::from_value(json!({"packages": packages, "workspace_members": members, "resolve": {"nodes": nodes}}))
            .unwrap()
    }

    fn problems(edges: &[(&str, &str, Option<&str>)]) -> Vec<String> {
        judge(&world(edges)).problems
    }

    #[test]
    fn the_table_allows_what_the_design_draws() {
        let edges = [
            ("rcc", "rcc-native", None),
            ("rcc-native", "rcc-plan", None),
            ("rcc-plan", "rcc-spec", None),
            ("rcc-native", "rcc-sys", None),
            ("rcc-native", "rcc-testkit", Some("dev")),
            ("rcc-gateway", "tokio", None),
        ];
        assert_eq!(problems(&edges), Vec::<String>::new());
    }

    #[test]
    fn siblings_are_refused_even_in_tests() {
        assert_eq!(problems(&[("rcc-native", "rcc-gateway", None)]).len(), 1);
        assert_eq!(
            problems(&[("rcc-native", "rcc-gateway", Some("dev"))]).len(),
            1
        );
        assert_eq!(problems(&[("rcc-spec", "rcc-plan", None)]).len(), 1);
    }

    #[test]
    fn a_development_crate_is_refused_however_it_is_reached() {
        // Direct and as a build dependency.
        assert!(!problems(&[("rcc", "rcc-testkit", None)]).is_empty());
        assert!(!problems(&[("rcc", "rcc-testkit", Some("build"))]).is_empty());
        // Through a package of others.
        let found = problems(&[("rcc", "other", None), ("other", "rcc-testkit", None)]);
        assert_eq!(
            found,
            ["rcc reaches rcc-testkit, which is for development only"]
        );
    }

    #[test]
    fn reserved_packages_stay_with_their_crates() {
        assert_eq!(problems(&[("rcc-host", "tokio", None)]).len(), 1);
        assert_eq!(problems(&[("rcc-spec", "rustix", None)]).len(), 1);
        assert_eq!(problems(&[("rcc-strange", "serde", None)]).len(), 1);
    }
}
