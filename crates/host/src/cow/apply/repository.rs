//! Directories that git takes for a repository, whatever they are called: what leads it there is held back like what is
//! in `.git`. Must not open anything.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rcc_spec::{PROTECTED_NAMES, ProtectedPlace};

use super::{Sides, lower_now};

/// Whether git takes configuration or programs from this path because its directory has the shape of a repository
/// (gitrepository-layout(5)), or will have it by this path, over configuration that is there already.
pub(super) fn is_of_repository(path: &Path, sides: Sides<'_>) -> bool {
    let parts: Vec<&OsStr> = path.iter().collect();
    let is_worth_it = |(_, part): &(usize, &&OsStr)| may_begin(part);
    parts.iter().enumerate().filter(is_worth_it).any(|(at, _)| {
        let below = parts.get(at..).unwrap_or_default();
        let leads = git_names().any(|name| is_at_or_below(below, name));
        if !leads && !SHAPE.iter().any(|name| is_at_or_below(below, name)) {
            return false;
        }
        let directory: PathBuf = parts.iter().take(at).collect();
        let below_has = |name: &str| exists(sides.lower, &directory.join(name));
        let has = |name: &str| below_has(name) || exists(sides.upper, &directory.join(name));
        is_shape(has) && (leads || (!is_shape(below_has) && git_names().any(below_has)))
    })
}

/// What completes the shape of a repository.
const SHAPE: [&str; 3] = ["HEAD", "objects", "refs"];

/// The names in a git directory that git obeys.
fn git_names() -> impl Iterator<Item = &'static str> {
    static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let names = PROTECTED_NAMES.iter();
        let names = names.filter(|name| name.place == ProtectedPlace::GitDirectory);
        names.map(|name| name.path.trim_end_matches('/')).collect()
    });
    NAMES.iter().copied()
}

/// Whether one of the names may begin with this part, by its first byte: a path can have thousands of parts, and nearly
/// none does.
fn may_begin(part: &OsStr) -> bool {
    static FIRST: LazyLock<[bool; 256]> = LazyLock::new(|| {
        let mut first = [false; 256];
        for byte in git_names()
            .chain(SHAPE)
            .filter_map(|name| name.bytes().next())
        {
            first[usize::from(byte.to_ascii_lowercase())] = true;
        }
        first
    });
    let byte = part.as_encoded_bytes().first();
    byte.is_some_and(|byte| FIRST[usize::from(byte.to_ascii_lowercase())])
}

/// `HEAD` beside `objects` or `commondir`: git looks for a little more, which an agent can leave for later.
fn is_shape(has: impl Fn(&str) -> bool) -> bool {
    has("HEAD") && (has("objects") || has("commondir"))
}

/// As on file systems that do not tell the case of letters.
fn is_at_or_below(parts: &[&OsStr], name: &str) -> bool {
    let mut parts = parts.iter();
    name.split('/').all(|wanted| {
        parts
            .next()
            .is_some_and(|part| part.eq_ignore_ascii_case(wanted))
    })
}

fn exists(tree: &super::Tree, path: &Path) -> bool {
    lower_now(tree, path).is_ok_and(|found| found.is_some_and(|meta| !meta.whiteout))
}
