//! What the layers of a run would bring that programs of the user's run or trust, told when the run ends: in a direct
//! run the same names are told because they are there. Must not open anything.

use std::path::{Path, PathBuf};

use rcc_host::cow::{Status, leads_git};
use rcc_plan::escape;
use rcc_spec::{ProtectedClass, is_host_executed, protected_name};

use super::Compared;
use crate::leftovers::{tell_counted, tell_list};

/// Tells about the names among the changes.
pub(super) fn tell(layers: &[Compared<'_>]) {
    let mut listed = Vec::new();
    let mut counted: Vec<PathBuf> = Vec::new();
    for compared in layers {
        let changes = &compared.changes;
        let is_there = |index: &usize| {
            let change = changes.nodes().get(*index);
            change.is_some_and(|change| change.status != Status::Removed)
        };
        for index in changes.listed().filter(is_there) {
            let path = changes.path(index);
            let shown = compared.layer.name(&path);
            // Of a further directory the whole path counts: it may be a part of what programs obey.
            let whole = shown.strip_prefix("/").unwrap_or(&shown);
            let name = protected_name(&path).or_else(|| protected_name(whole));
            let reason = name.map_or("git takes configuration or programs from it", |name| {
                name.reason
            });
            let held =
                is_obeyed(&path, whole) || leads_git(&path, &compared.upper, &compared.lower);
            match name.map(|name| name.class) {
                _ if held => listed.push(format!(
                    "{} ({reason}; rcc apply holds it back until you name it)",
                    escape(&shown)
                )),
                Some(ProtectedClass::Build) => counted.push(shown),
                Some(ProtectedClass::Report | ProtectedClass::ReadOnly) => {
                    listed.push(format!("{} ({reason})", escape(&shown)));
                }
                None => {}
            }
        }
    }
    tell_list(
        "among the changes, and run or trusted by programs of your own once they are applied; look at them before:",
        listed,
    );
    tell_counted(&counted.iter().collect::<Vec<_>>());
}

fn is_obeyed(path: &Path, whole: &Path) -> bool {
    is_host_executed(path) || is_host_executed(whole)
}
