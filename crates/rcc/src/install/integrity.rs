//! Subresource Integrity (W3C SRI) of package archives: `sha512-<base64>`.
//!
//! Must not accept a weaker hash: a registry that offers only SHA-1 is refused.

use std::io::Read;

use sha2::{Digest as _, Sha512};

/// Base64 alphabet (RFC 4648 section 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// An archive that is not the one that was announced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntegrityError {
    /// The announced value has no SHA-512.
    #[error("the integrity value {announced:?} of {package} holds no sha512 hash")]
    NoSha512 { package: String, announced: String },
    /// The hashes differ.
    #[error(
        "the archive of {package} is not the one that was announced: sha512-{found} instead of sha512-{announced}"
    )]
    Mismatch {
        package: String,
        announced: String,
        found: String,
    },
    /// The archive cannot be read.
    #[error("cannot read the archive of {package}")]
    Read {
        package: String,
        #[source]
        source: std::io::Error,
    },
}

/// Compares an archive with the announced integrity value, which may list several hashes.
pub(crate) fn verify(
    package: &str,
    announced: &str,
    archive: &mut impl Read,
) -> Result<(), IntegrityError> {
    let package = || package.to_owned();
    let expected: Vec<&str> = announced
        .split_ascii_whitespace()
        .filter_map(|value| value.strip_prefix("sha512-"))
        // Options after `?` are reserved by the standard and ignored.
        .map(|value| value.split('?').next().unwrap_or(value))
        .collect();
    if expected.is_empty() {
        return Err(IntegrityError::NoSha512 {
            package: package(),
            announced: announced.to_owned(),
        });
    }
    let mut digest = Sha512::new();
    let mut buffer = vec![0_u8; 1 << 18];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => digest.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(IntegrityError::Read {
                    package: package(),
                    source,
                });
            }
        }
    }
    let found = base64(&digest.finalize());
    if expected.contains(&found.as_str()) {
        Ok(())
    } else {
        Err(IntegrityError::Mismatch {
            package: package(),
            announced: expected.join(" sha512-"),
            found,
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for position in 0..4 {
            if position <= chunk.len() {
                let index = (group >> (18 - 6 * position)) & 63;
                out.push(char::from(BASE64[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-512 of `abc` (FIPS 180-4), in base64.
    const ABC: &str =
        "3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";

    #[test]
    fn base64_is_the_one_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn only_the_announced_archive_is_accepted() {
        let announced = format!("sha1-aaaa sha512-{ABC}?x");
        verify("p", &announced, &mut &b"abc"[..]).unwrap();
        assert!(matches!(
            verify("p", &announced, &mut &b"abd"[..]),
            Err(IntegrityError::Mismatch { .. })
        ));
    }

    #[test]
    fn a_weaker_hash_alone_is_refused() {
        for announced in ["", "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "sha256-x", "md5-x"] {
            assert!(
                matches!(
                    verify("p", announced, &mut &b"abc"[..]),
                    Err(IntegrityError::NoSha512 { .. })
                ),
                "{announced}"
            );
        }
    }
}

/// For tests that make archives.
#[cfg(test)]
pub(super) mod tests_support {
    /// The integrity value of an archive.
    pub(in crate::install) fn sri(archive: &[u8]) -> String {
        use sha2::Digest as _;
        format!("sha512-{}", super::base64(&sha2::Sha512::digest(archive)))
    }
}
