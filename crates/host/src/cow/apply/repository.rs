//! Directories that git takes for a repository, whatever they are called: what leads it there is held back like what is
//! in `.git`. Must not open anything.

use std::path::Path;

use rcc_spec::{PROTECTED_NAMES, ProtectedPlace};

use super::{Sides, lower_now};

/// Whether git takes configuration or programs from this path because its directory has the shape of a repository
/// (gitrepository-layout(5)), or will have it by this path, over configuration that is there already.
pub(super) fn is_of_repository(path: &Path, sides: Sides<'_>) -> bool {
    path.ancestors().skip(1).any(|directory| {
        let Ok(below) = path.strip_prefix(directory) else {
            return false;
        };
        let leads = git_names().any(|name| is_at_or_below(below, name));
        let completes = ["HEAD", "objects", "refs"];
        let completes = completes.iter().any(|name| is_at_or_below(below, name));
        if !leads && !completes {
            return false;
        }
        let below_has = |name: &str| exists(sides.lower, &directory.join(name));
        let has = |name: &str| below_has(name) || exists(sides.upper, &directory.join(name));
        is_shape(has) && (leads || (!is_shape(below_has) && git_names().any(below_has)))
    })
}

/// The names in a git directory that git obeys.
fn git_names() -> impl Iterator<Item = &'static str> {
    PROTECTED_NAMES
        .iter()
        .filter(|name| name.place == ProtectedPlace::GitDirectory)
        .map(|name| name.path.trim_end_matches('/'))
}

/// `HEAD` beside `objects` or `commondir`: git looks for a little more, which an agent can leave for later.
fn is_shape(has: impl Fn(&str) -> bool) -> bool {
    has("HEAD") && (has("objects") || has("commondir"))
}

/// As on file systems that do not tell the case of letters.
fn is_at_or_below(path: &Path, name: &str) -> bool {
    let mut parts = path.iter();
    Path::new(name).iter().all(|wanted| {
        parts
            .next()
            .is_some_and(|part| part.eq_ignore_ascii_case(wanted))
    })
}

fn exists(tree: &super::Tree, path: &Path) -> bool {
    lower_now(tree, path).is_ok_and(|found| found.is_some_and(|meta| !meta.whiteout))
}
