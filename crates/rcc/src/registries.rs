//! Presets of package managers: what the caller's own configuration names becomes rules of the layer that asks for it.
//!
//! Derived again at every start, in every layer and in what was approved before: so an approval is compared by what a
//! preset means now, and a change of the caller's own configuration is the caller's own act. Files of the project have
//! no say; where they name hosts that no rule allows, a hint says so.

mod ask;
mod maven;
mod project;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rcc_host::{Project, Registries, expand_home};
use rcc_spec::registries::{Endpoint, read_answer, read_go_env};
use rcc_spec::{
    NetworkMode, PackageManager, PathBase, PathSpec, Policy, PolicyLayer, Rule, RuleSet, Sourced,
    Target,
};

use crate::context::Context;

pub(crate) use project::{LockFiles, Named, named_by_project, present};

/// The rules of a preset, and what has to be said about them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Derived {
    pub(crate) rules: Vec<Rule>,
    pub(crate) notes: Vec<String>,
}

/// Derives each preset once.
pub(crate) struct Presets<'a> {
    context: &'a Context,
    /// Where agents write, canonical.
    writable: Vec<PathBuf>,
    known: RefCell<BTreeMap<PackageManager, Rc<Derived>>>,
}

impl<'a> Presets<'a> {
    /// `layers` are all that could grant something: what they grant read-write is no place for a configuration.
    pub(crate) fn new<'l>(
        context: &'a Context,
        project: &Project,
        layers: impl IntoIterator<Item = &'l PolicyLayer>,
    ) -> Self {
        let home = &context.account.home;
        let granted = layers.into_iter().flat_map(|layer| &layer.rw);
        let mut writable: Vec<PathBuf> = granted
            .map(|path: &Sourced<PathSpec>| match path.value.base() {
                PathBase::Root => PathBuf::from(path.value.as_str()),
                PathBase::Home => expand_home(Path::new(path.value.as_str()), home),
                PathBase::Project => project.root.join(path.value.relative()),
            })
            .map(|path| std::fs::canonicalize(&path).unwrap_or(path))
            .collect();
        writable.push(project.root.clone());
        // Agents of other runs write there.
        let homes = context.directories.data.join("homes");
        writable.push(std::fs::canonicalize(&homes).unwrap_or(homes));
        Self {
            context,
            writable,
            known: RefCell::default(),
        }
    }

    /// Adds the rules of a layer's presets to the layer.
    pub(crate) fn expand(&self, layer: &mut PolicyLayer) {
        for preset in layer.presets.clone() {
            layer
                .allow
                .extend(self.derive(preset.value).rules.iter().cloned());
        }
    }

    /// Everything that has to be said about the presets that were derived.
    pub(crate) fn notes(&self) -> Vec<String> {
        let known = self.known.borrow();
        known
            .values()
            .flat_map(|derived| derived.notes.iter().cloned())
            .collect()
    }

    /// The rules of one preset.
    pub(crate) fn derive(&self, manager: PackageManager) -> Rc<Derived> {
        if let Some(known) = self.known.borrow().get(&manager) {
            return Rc::clone(known);
        }
        let derived = Rc::new(self.read(manager));
        self.known.borrow_mut().insert(manager, Rc::clone(&derived));
        derived
    }

    /// What the tool itself says, where the configuration leaves something to it.
    fn default_of(
        &self,
        manager: PackageManager,
        has_main: bool,
        writable: &[&Path],
    ) -> Option<(String, Vec<String>)> {
        (!has_main || manager == PackageManager::Go)
            .then(|| ask::default_of(self.context, writable, manager))
            .flatten()
    }

    fn read(&self, manager: PackageManager) -> Derived {
        let writable: Vec<&Path> = self.writable.iter().map(PathBuf::as_path).collect();
        let registries = Registries {
            home: &self.context.account.home,
            environment: &self.context.environment,
            uid: self.context.account.user.uid,
            writable: &writable,
            root: Path::new("/"),
        };
        let configured = registries.configured(manager);
        let mut out = Derived {
            rules: Vec::new(),
            notes: configured.notes,
        };
        let mut has_main = false;
        for found in configured.found {
            // The two settings of go are of the same strength.
            if !has_main || manager == PackageManager::Go {
                out.take(found.main.as_ref());
            }
            has_main |= found.main.is_some();
            out.take(Some(&found.others));
            out.notes.extend(found.notes);
        }
        if let Some((place, answers)) = self.default_of(manager, has_main, &writable) {
            let found = if manager == PackageManager::Go {
                read_go_env(&answers.join("\n"), &place)
                    .into_iter()
                    .filter(|(name, _)| configured.missing.contains(&name.as_str()))
                    .map(|(_, found)| found)
                    .collect()
            } else {
                vec![read_answer(manager, &place, &answers)]
            };
            for found in found {
                out.take(found.main.as_ref());
                out.notes.extend(found.notes);
            }
        }
        if manager == PackageManager::Cargo {
            let indexes: Vec<Endpoint> = out.rules.iter().filter_map(endpoint_of).collect();
            let archives = registries.cargo_archives(&indexes);
            out.notes.extend(archives.notes);
            if archives.found.is_empty() && !indexes.is_empty() {
                out.notes.push("preset cargo: cargo has stored no index yet, so the host of its archives may be missing: run `cargo fetch` once outside, or see `rcc net learn`".to_owned());
            }
            for found in archives.found {
                out.take(Some(&found.others));
                out.notes.extend(found.notes);
            }
        }
        if out.rules.is_empty() {
            out.notes.push(format!(
                "preset {manager}: no configuration of {manager} on this host names a host, so it allows nothing"
            ));
        }
        out
    }
}

impl Derived {
    fn take(&mut self, rules: Option<&Vec<Rule>>) {
        for rule in rules.into_iter().flatten() {
            let is_known = self.rules.iter().any(|known| {
                known.target == rule.target
                    && known.ports == rule.ports
                    && known.transport == rule.transport
            });
            if !is_known {
                self.rules.push(rule.clone());
            }
        }
    }
}

/// The endpoint of a rule that was made of one.
fn endpoint_of(rule: &Rule) -> Option<Endpoint> {
    let port = rule.ports.ranges().first()?.first();
    Some(Endpoint {
        target: rule.target.clone(),
        port,
    })
}

/// Hints about hosts that files of the project name for a preset in force, and that no rule allows.
pub(crate) fn hints(project: &Project, policy: &Policy) -> Vec<String> {
    if policy.network.mode != NetworkMode::Allowlist || policy.presets.is_empty() {
        return Vec::new();
    }
    let rules = RuleSet::compile(&policy.network);
    let managers: Vec<PackageManager> = policy.presets.iter().map(|preset| preset.value).collect();
    named_by_project(project, &managers, LockFiles::Skip)
        .into_iter()
        .filter(|named| !is_allowed(&rules, &named.rule))
        .map(|named| {
            format!(
                "{} of the project names {}, which no rule allows; presets do not read the project's files. To allow it: allow = [\"{}\"]",
                named.place, named.rule, named.rule
            )
        })
        .collect()
}

/// Whether the rules allow what this one speaks of.
pub(crate) fn is_allowed(rules: &RuleSet, rule: &Rule) -> bool {
    let Some(port) = rule.ports.ranges().first().map(|range| range.first()) else {
        return true;
    };
    let protocol = rcc_spec::Protocol::Tcp;
    match &rule.target {
        Target::Host(name) => rules.decide_name(name, port, protocol).is_allow(),
        Target::Network(network) => rules
            .decide_address(network.addr(), port, protocol)
            .is_allow(),
        Target::Subdomains(_) => true,
    }
}
