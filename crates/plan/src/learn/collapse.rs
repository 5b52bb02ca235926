//! Names below one parent become a wildcard, where that opens little more than what was seen.
//!
//! Must not make a wildcard over a name of two labels: such a name may be a public suffix below which everybody can have
//! a name (`co.example`-like registries, hosting services), and no list of those is built in.

use std::collections::BTreeMap;

use rcc_spec::{HostName, Ports, Target, Transport};

use super::Learned;

/// Fewest names that a wildcard stands for.
const SIBLINGS: usize = 3;
/// Fewest labels of the parent.
const PARENT_LABELS: usize = 3;

/// Replaces names with the same parent, ports and transport by a wildcard; sorted as before.
pub(super) fn collapse(learned: Vec<Learned>) -> Vec<Learned> {
    let mut groups: BTreeMap<(HostName, Ports, Transport), Vec<Learned>> = BTreeMap::new();
    let mut out = Vec::new();
    for one in learned {
        match parent(&one.rule.target) {
            Some(parent) => groups
                .entry((parent, one.rule.ports.clone(), one.rule.transport))
                .or_default()
                .push(one),
            None => out.push(one),
        }
    }
    for ((parent, _, _), group) in groups {
        if group.len() < SIBLINGS {
            out.extend(group);
            continue;
        }
        let siblings = group
            .iter()
            .filter_map(|one| match &one.rule.target {
                Target::Host(name) => Some(name.clone()),
                Target::Subdomains(_) | Target::Network(_) => None,
            })
            .collect();
        let joined = group.into_iter().reduce(|mut sum, one| {
            sum.evidence.join(&one.evidence);
            sum
        });
        out.extend(joined.map(|mut joined| {
            joined.rule.target = Target::Subdomains(parent);
            joined.siblings = siblings;
            joined
        }));
    }
    out.sort_by(|one, other| {
        let key = |learned: &Learned| (learned.rule.target.clone(), learned.rule.transport);
        key(one).cmp(&key(other))
    });
    out
}

/// The parent of a name, if a wildcard over it is possible.
fn parent(target: &Target) -> Option<HostName> {
    let Target::Host(name) = target else {
        return None;
    };
    let (_, parent) = name.as_str().split_once('.')?;
    (parent.split('.').count() >= PARENT_LABELS)
        .then(|| HostName::parse(parent).ok())
        .flatten()
}
