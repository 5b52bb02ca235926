//! Small package registries with one package each, for real cargo, npm and pip.
//!
//! Cargo: a sparse index at `/cargo/index/`. npm: `/npm/`. Python: a simple index at `/pypi/simple/`. Must serve over
//! whatever scheme was asked, and give addresses of its own host only.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};
use serde_json::json;

use crate::archive::{tar_gz, zip};
use crate::http::{Request, Response};

/// The three packages, made once.
#[derive(Debug)]
pub(crate) struct Registry {
    crate_file: Vec<u8>,
    npm_tarball: Vec<u8>,
    wheel: Vec<u8>,
}

impl Registry {
    pub(crate) fn make() -> Self {
        let manifest =
            b"[package]\nname = \"tiny-crate\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\n[lib]\n";
        let library = b"/// Says where it came from.\npub fn origin() -> &'static str {\n    \"test registry\"\n}\n";
        let package = br#"{"name":"tiny-npm","version":"1.0.0","main":"index.js","license":"MIT"}"#;
        let script = b"module.exports = () => 'test registry';\n";
        let metadata = b"Metadata-Version: 2.1\nName: tiny-py\nVersion: 1.0.0\n";
        let wheel = b"Wheel-Version: 1.0\nGenerator: rcc-testkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let record =
            b"tiny_py.py,,\ntiny_py-1.0.0.dist-info/METADATA,,\ntiny_py-1.0.0.dist-info/WHEEL,,\n\
                       tiny_py-1.0.0.dist-info/RECORD,,\n";
        Self {
            crate_file: tar_gz(&[
                ("tiny-crate-1.0.0/Cargo.toml", manifest),
                ("tiny-crate-1.0.0/src/lib.rs", library),
            ]),
            npm_tarball: tar_gz(&[
                ("package/package.json", package),
                ("package/index.js", script),
            ]),
            wheel: zip(&[
                ("tiny_py.py", b"ORIGIN = 'test registry'\n"),
                ("tiny_py-1.0.0.dist-info/METADATA", metadata),
                ("tiny_py-1.0.0.dist-info/WHEEL", wheel),
                ("tiny_py-1.0.0.dist-info/RECORD", record),
            ]),
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Response {
        let base = format!(
            "{}://{}",
            request.head.scheme,
            request.head.header("host").unwrap_or_default()
        );
        let bytes = |content: &[u8]| Response::new(200, "application/octet-stream", content);
        match request.path() {
            "/cargo/index/config.json" => {
                Response::json(&json!({ "dl": format!("{base}/cargo/dl") }))
            }
            "/cargo/index/ti/ny/tiny-crate" => Response::json(&json!({
                "name": "tiny-crate", "vers": "1.0.0", "deps": [], "features": {}, "yanked": false,
                "cksum": hex(digest(&SHA256, &self.crate_file).as_ref()),
            })),
            "/cargo/dl/tiny-crate/1.0.0/download" => bytes(&self.crate_file),
            "/npm/tiny-npm" => Response::json(&json!({
                "name": "tiny-npm", "dist-tags": { "latest": "1.0.0" },
                "versions": { "1.0.0": {
                    "name": "tiny-npm", "version": "1.0.0", "main": "index.js",
                    "dist": {
                        "tarball": format!("{base}/npm/tiny-npm/-/tiny-npm-1.0.0.tgz"),
                        "shasum": hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &self.npm_tarball).as_ref()),
                        "integrity": format!("sha512-{}", base64(digest(&SHA512, &self.npm_tarball).as_ref())),
                    },
                } },
            })),
            "/npm/tiny-npm/-/tiny-npm-1.0.0.tgz" => bytes(&self.npm_tarball),
            "/pypi/simple/tiny-py/" => {
                let name = "tiny_py-1.0.0-py3-none-any.whl";
                let sum = hex(digest(&SHA256, &self.wheel).as_ref());
                let page = format!(
                    "<!DOCTYPE html><html><body><a href=\"/pypi/files/{name}#sha256={sum}\">{name}</a></body></html>"
                );
                Response::new(200, "text/html", page)
            }
            "/pypi/files/tiny_py-1.0.0-py3-none-any.whl" => bytes(&self.wheel),
            _ => Response::not_found(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Base64 with padding (RFC 4648 section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = part
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - part.len()));
        for place in 0..4 {
            let letter =
                LETTERS[usize::try_from(word >> (18 - 6 * place) & 63).unwrap_or_default()];
            text.push(if place <= part.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_remainder() {
        assert_eq!(
            [base64(b"foo"), base64(b"fo"), base64(b"f")],
            ["Zm9v", "Zm8=", "Zg=="]
        );
    }
}
