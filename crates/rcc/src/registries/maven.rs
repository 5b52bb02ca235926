//! The repository that Maven uses when nothing is configured: it stands in the model that every project inherits, one
//! file in one of Maven's own archives. Running Maven would need the network.
//!
//! Reads one entry of a zip archive (PKWARE APPNOTE 6.3, sections 4.3.7, 4.3.12 and 4.3.16), every length checked.

use std::io::Read as _;
use std::path::Path;

use rcc_host::resolve_without;
use rcc_spec::Target;
use rcc_spec::registries::read_maven;

/// The entry with the model.
const MODEL: &[u8] = b"org/apache/maven/model/pom-4.0.0.xml";
/// Largest archive and largest model, in bytes.
const ARCHIVE_LIMIT_BYTES: u64 = 16 << 20;
const MODEL_LIMIT_BYTES: u64 = 256 << 10;

/// The repositories of the model that belongs to this `mvn`, as URLs of their hosts.
pub(super) fn model_repositories(program: &Path, writable: &[&Path]) -> Vec<String> {
    model(program, writable).map_or_else(Vec::new, |text| repositories(&text))
}

fn model(program: &Path, writable: &[&Path]) -> Option<String> {
    let real = resolve_without(program, writable)?;
    let library = real.parent()?.parent()?.join("lib");
    let mut archives: Vec<_> = std::fs::read_dir(library)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| {
                    name.starts_with("maven-model-builder") && name.ends_with(".jar")
                })
        })
        .collect();
    archives.sort();
    let archive = resolve_without(archives.first()?, writable)?;
    if writable.iter().any(|root| archive.starts_with(root)) {
        return None;
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(archive).ok()?;
    file.take(ARCHIVE_LIMIT_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    entry(&bytes, MODEL)
}

fn repositories(model: &str) -> Vec<String> {
    let found = read_maven(model, "", &|_| None);
    let names = found.main.iter().flatten().chain(&found.others);
    names
        .filter_map(|rule| match &rule.target {
            Target::Host(name) => {
                let port = rule.ports.ranges().first()?.first();
                Some(format!("https://{name}:{port}/"))
            }
            Target::Subdomains(_) | Target::Network(_) => None,
        })
        .collect()
}

/// The text of one entry.
fn entry(bytes: &[u8], name: &[u8]) -> Option<String> {
    const END: &[u8] = b"PK\x05\x06";
    let end = bytes.windows(END.len()).rposition(|window| window == END)?;
    let count = number(bytes, end + 10, 2)?;
    let mut at = number(bytes, end + 16, 4)?;
    for _ in 0..count {
        if bytes.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let (length, extra, comment) = (
            number(bytes, at + 28, 2)?,
            number(bytes, at + 30, 2)?,
            number(bytes, at + 32, 2)?,
        );
        if bytes.get(at + 46..at + 46 + length)? == name {
            let (method, packed) = (number(bytes, at + 10, 2)?, number(bytes, at + 20, 4)?);
            let local = number(bytes, at + 42, 4)?;
            if bytes.get(local..local.checked_add(4)?)? != b"PK\x03\x04" {
                return None;
            }
            let data = local + 30 + number(bytes, local + 26, 2)? + number(bytes, local + 28, 2)?;
            let data = bytes.get(data..data.checked_add(packed)?)?;
            let mut text = String::new();
            match method {
                0 => data
                    .take(MODEL_LIMIT_BYTES)
                    .read_to_string(&mut text)
                    .ok()?,
                8 => flate2::read::DeflateDecoder::new(data)
                    .take(MODEL_LIMIT_BYTES)
                    .read_to_string(&mut text)
                    .ok()?,
                _ => return None,
            };
            return Some(text);
        }
        at += 46 + length + extra + comment;
    }
    None
}

/// A little-endian number of two or four bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    let number = bytes
        .iter()
        .rev()
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn archive(name: &[u8], content: &[u8]) -> Vec<u8> {
        let mut packed =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(content).unwrap();
        let packed = packed.finish().unwrap();
        let two = |number: usize| u16::try_from(number).unwrap().to_le_bytes();
        let four = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let mut out = b"PK\x03\x04".to_vec();
        out.extend([0; 22]);
        out.extend(two(name.len()));
        out.extend(two(0));
        out.extend(name);
        out.extend(&packed);
        let directory = out.len();
        out.extend(b"PK\x01\x02");
        out.extend([0; 6]);
        out.extend(two(8));
        out.extend([0; 8]);
        out.extend(four(packed.len()));
        out.extend(four(content.len()));
        out.extend(two(name.len()));
        out.extend([0; 12]);
        out.extend(four(0));
        out.extend(name);
        out.extend(b"PK\x05\x06");
        out.extend([0; 6]);
        out.extend(two(1));
        out.extend(four(0));
        out.extend(four(directory));
        out.extend(two(0));
        out
    }

    #[test]
    fn the_model_names_its_repository() {
        let model = b"<project><repositories><repository><id>central</id><url>https://u:p@mvn.example.com:8443/maven2</url></repository></repositories></project>";
        let bytes = archive(MODEL, model);
        let text = entry(&bytes, MODEL).unwrap();
        assert_eq!(repositories(&text), ["https://mvn.example.com:8443/"]);
        assert_eq!(entry(&bytes, b"other"), None);
        // Cut or changed anywhere it is an answer or none, and no panic.
        for length in 0..bytes.len() {
            let _ = entry(&bytes[..length], MODEL);
            let mut changed = bytes.clone();
            changed[length] = 0xff;
            let _ = entry(&changed, MODEL);
        }
    }
}
