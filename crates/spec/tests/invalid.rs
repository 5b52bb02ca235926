//! Bad policy files: one file, one fault, its message.
//!
//! Each file of `tests/invalid` says in its first lines what a user must read: `# error:` the message with all its
//! causes, `# hint:` what to do (left out when the message says it all). A file whose name begins with `admin-` is read
//! as the administrator's, `preset-` as a preset, others as a project's.

#![forbid(unsafe_code)]

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use rcc_spec::{AgentPreset, LayerKind, PolicyError, SourceName, decode, parse_toml};

/// How many files there are at least, so that a moved directory does not pass as "nothing wrong".
const FILES_MIN: usize = 50;

fn read(name: &str, bytes: &[u8]) -> Result<(), PolicyError> {
    let source = SourceName::file(if name.starts_with("preset-") {
        "preset.toml"
    } else {
        "rcc.toml"
    });
    let text = decode(bytes, &source)?;
    if name.starts_with("preset-") {
        return AgentPreset::parse(text, &source).map(|_| ());
    }
    let kind = if name.starts_with("admin-") {
        LayerKind::Admin
    } else {
        LayerKind::Project
    };
    parse_toml(text, &source, kind).map(|_| ())
}

/// What a person reads, in the form of the head of the file.
fn shown(error: &PolicyError) -> String {
    let mut head = format!("# error: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        head.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    head.push('\n');
    if let Some(hint) = error.hint() {
        head.push_str(&format!("# hint: {hint}\n"));
    }
    head
}

#[test]
fn every_bad_file_gets_its_message() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid");
    let mut files = 0;
    let mut wrong = String::new();
    let mut entries: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        files += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let head: String = String::from_utf8_lossy(&bytes)
            .split_inclusive('\n')
            .take_while(|line| line.starts_with("# error: ") || line.starts_with("# hint: "))
            .collect();
        match read(&name, &bytes) {
            Ok(()) => writeln!(wrong, "{name}: was accepted").unwrap(),
            Err(error) if shown(&error) != head => {
                writeln!(wrong, "{name}:\n{}instead of\n{head}", shown(&error)).unwrap();
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(files >= FILES_MIN, "only {files} files");
}
