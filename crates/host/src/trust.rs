//! Which project policies the caller approved: one small file for each project in the state directory.
//!
//! A project's `rcc.toml` is written by whoever wrote the repository, or by the agent of an earlier run. It counts only
//! with exactly the text that was approved. Must not decide what a policy means: texts are compared, nothing else.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcc_plan::SafeBytes;
use rustix::fs::{AtFlags, Dir};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::directories::{DirectoryError, open_private};
use crate::files::{self, FileError, Links};

/// Largest approval record, in bytes: the policy text (bounded by its reader) escaped as JSON.
const RECORD_LIMIT_BYTES: usize = 16 << 20;

/// A trust store that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// Its directory is unusable.
    #[error("cannot open the trust store")]
    Directory(#[source] DirectoryError),
    /// A record cannot be read or written.
    #[error("cannot use the trust store")]
    File(#[source] FileError),
    /// A record is damaged.
    #[error("the trust record {} is damaged", rcc_plan::escape(path))]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The records cannot be listed or removed.
    #[error("cannot change the trust store {}", rcc_plan::escape(path))]
    Change {
        /// The store or record.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: std::io::Error,
    },
}

/// What the store says about a policy text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// This very text was approved for this project.
    Approved,
    /// Another text was approved for this project.
    Changed {
        /// The text approved before.
        approved: String,
    },
    /// Nothing was approved for this project.
    Unknown,
}

/// One approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Canonical path of the project.
    pub project: SafeBytes,
    /// SHA-256 of the approved `rcc.toml`, hexadecimal.
    pub sha256: String,
    /// When, in seconds since 1970.
    pub approved_at_s: u64,
    /// The approved text, to show later what changed.
    pub text: String,
}

/// The trust store of the caller.
#[derive(Debug, Clone)]
pub struct TrustStore {
    directory: PathBuf,
}

impl TrustStore {
    /// Names the store in the state directory; nothing is created until something is approved.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self {
            directory: state.join("trust"),
        }
    }

    /// Compares a policy text with the approved one.
    ///
    /// # Errors
    /// When the store exists but cannot be read: an unreadable store approves nothing.
    pub fn check(&self, project: &Path, text: &str) -> Result<Approval, TrustError> {
        Ok(match self.load(project)? {
            None => Approval::Unknown,
            Some(record)
                if record.sha256 == sha256(text) && record.project.as_path() == project =>
            {
                Approval::Approved
            }
            Some(record) => Approval::Changed {
                approved: record.text,
            },
        })
    }

    /// Approves a policy text for a project, in place of any earlier one.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn approve(&self, project: &Path, text: &str) -> Result<(), TrustError> {
        let record = Approved {
            project: project.into(),
            sha256: sha256(text),
            approved_at_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO)
                .as_secs(),
            text: text.to_owned(),
        };
        let directory = open_private(&self.directory).map_err(TrustError::Directory)?;
        let name = record_name(project);
        let json = serde_json::to_vec_pretty(&record).map_err(|source| TrustError::Damaged {
            path: self.directory.join(&name),
            source,
        })?;
        files::replace(directory.as_fd(), &self.directory, &name, &json).map_err(TrustError::File)
    }

    /// Withdraws the approval. Tells whether there was one.
    ///
    /// # Errors
    /// When the record exists but cannot be removed.
    pub fn revoke(&self, project: &Path) -> Result<bool, TrustError> {
        let path = self.directory.join(record_name(project));
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(TrustError::Change { path, source }),
        }
    }

    /// Lists every approval, by project.
    ///
    /// # Errors
    /// When the store cannot be listed or a record is damaged.
    pub fn list(&self) -> Result<Vec<Approved>, TrustError> {
        let change = |errno: Errno| TrustError::Change {
            path: self.directory.clone(),
            source: errno.into(),
        };
        let directory = match std::fs::File::open(&self.directory) {
            Ok(directory) => directory,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(TrustError::Change {
                    path: self.directory.clone(),
                    source,
                });
            }
        };
        let mut found = Vec::new();
        for entry in Dir::read_from(&directory).map_err(change)? {
            let name = entry
                .map_err(change)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            if name.ends_with(".json") && !name.starts_with('.') {
                found.extend(self.read(&name)?);
            }
        }
        found.sort_by(|left, right| left.project.cmp(&right.project));
        Ok(found)
    }

    fn load(&self, project: &Path) -> Result<Option<Approved>, TrustError> {
        // A look at a store that does not exist must not create it.
        match rustix::fs::statat(rustix::fs::CWD, &self.directory, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            _ => self.read(&record_name(project)),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Approved>, TrustError> {
        // Checked like every directory of rcc: an approval that another user could have placed is none.
        let directory = open_private(&self.directory).map_err(TrustError::Directory)?;
        let content = files::read_below(
            directory.as_fd(),
            &self.directory,
            Path::new(name),
            RECORD_LIMIT_BYTES,
            Links::Refuse,
        );
        match content.map_err(TrustError::File)? {
            None => Ok(None),
            Some(content) => serde_json::from_str(&content.text)
                .map(Some)
                .map_err(|source| TrustError::Damaged {
                    path: self.directory.join(name),
                    source,
                }),
        }
    }
}

/// Hexadecimal SHA-256 (FIPS 180-4) of a text.
#[must_use]
pub fn sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// The file of a project: its path may hold any byte, a file name may not.
fn record_name(project: &Path) -> String {
    format!(
        "{}.json",
        hex(&Sha256::digest(project.as_os_str().as_encoded_bytes()))
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(name: &str) -> TrustStore {
        let path = std::env::temp_dir().join(format!("rcc-trust-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        TrustStore::new(&path)
    }

    #[test]
    fn only_the_approved_text_of_the_approved_project_is_approved() {
        let store = store("exact");
        let (here, there) = (Path::new("/a"), Path::new("/b"));
        assert_eq!(store.check(here, "x").unwrap(), Approval::Unknown);
        store.approve(here, "x").unwrap();
        assert_eq!(store.check(here, "x").unwrap(), Approval::Approved);
        assert_eq!(
            store.check(here, "x ").unwrap(),
            Approval::Changed {
                approved: "x".into()
            }
        );
        assert_eq!(store.check(there, "x").unwrap(), Approval::Unknown);
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(store.revoke(here).unwrap());
        assert!(!store.revoke(here).unwrap());
        assert_eq!(store.check(here, "x").unwrap(), Approval::Unknown);
    }

    #[test]
    fn a_damaged_or_foreign_record_is_an_error_and_never_an_approval() {
        use std::os::unix::fs::PermissionsExt as _;
        let store = store("damaged");
        let project = Path::new("/a");
        store.approve(project, "x").unwrap();
        let record = store.directory.join(record_name(project));
        std::fs::write(&record, "{").unwrap();
        assert!(matches!(
            store.check(project, "x"),
            Err(TrustError::Damaged { .. })
        ));
        std::fs::set_permissions(&store.directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            store.check(project, "x"),
            Err(TrustError::Directory(DirectoryError::Writable { .. }))
        ));
    }

    #[test]
    fn sha256_is_the_one_of_the_standard() {
        assert_eq!(
            sha256("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
