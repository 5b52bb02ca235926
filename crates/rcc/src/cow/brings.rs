//! What a layer would bring into the project that programs of the user's run or trust, told when the run ends: in a direct
//! run the same names are told because they are there. Must not open anything.

use std::path::PathBuf;

use rcc_host::cow::{Changes, Status, Tree, leads_git};
use rcc_plan::escape;
use rcc_spec::{ProtectedClass, is_host_executed, protected_name};

use crate::leftovers::{tell_counted, tell_list};

/// Tells about the names among the changes.
pub(super) fn tell(changes: &Changes, upper: &Tree, lower: &Tree) {
    let paths: Vec<PathBuf> = changes
        .listed()
        .filter(|index| {
            changes
                .nodes()
                .get(*index)
                .is_some_and(|change| change.status != Status::Removed)
        })
        .map(|index| changes.path(index))
        .collect();
    let mut listed = Vec::new();
    let mut counted = Vec::new();
    for path in &paths {
        let name = protected_name(path);
        let reason = name.map_or("git takes configuration or programs from it", |name| {
            name.reason
        });
        let held = is_host_executed(path) || leads_git(path, upper, lower);
        match name.map(|name| name.class) {
            _ if held => listed.push(format!(
                "{} ({reason}; rcc apply holds it back until you name it)",
                escape(path)
            )),
            Some(ProtectedClass::Build) => counted.push(path),
            Some(ProtectedClass::Report | ProtectedClass::ReadOnly) => {
                listed.push(format!("{} ({reason})", escape(path)));
            }
            None => {}
        }
    }
    tell_list(
        "among the changes, and run or trusted by programs of your own once they are in the project; look before you apply them:",
        listed,
    );
    tell_counted(&counted);
}
