//! Who called rcc: ids, login name, shell, and the real home.
//!
//! The password file is read first because that is what a lookup costs least; the name service (LDAP, systemd-homed)
//! is asked only for an id that is not in it, by a program of its own: its modules cannot be loaded into a program that is
//! linked statically, as the released rcc is. Must not trust a variable over the kernel: ids come from system calls.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcc_plan::User;

/// The program that asks the name services (`getent(1)`, part of the C library), where distributions have it.
const GETENT: [&str; 2] = ["/usr/bin/getent", "/run/current-system/sw/bin/getent"];

/// Upper bound for the password file, in bytes; a larger one is ignored and the name service is asked.
const PASSWORD_FILE_LIMIT: usize = 4 << 20;

/// First id of a person on Linux distributions (`UID_MIN` in login.defs(5)).
const FIRST_PERSON: u32 = 1000;

/// A caller whose home cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// Neither `HOME` nor the password database names a directory.
    #[error("cannot find the home directory of user id {uid}")]
    NoHome {
        /// The effective user id.
        uid: u32,
    },
    /// `HOME` or the password database names something unusable.
    #[error("cannot use {} as the home directory", rcc_plan::escape(path))]
    BadHome {
        /// What was named.
        path: PathBuf,
        /// Why it cannot be used.
        #[source]
        source: std::io::Error,
    },
    /// The home is `/`, below which everything lies.
    #[error("the home directory is /, so nothing could be kept from the agent")]
    RootHome,
}

/// The caller and the real home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// What the plan needs.
    pub user: User,
    /// The real home, canonical.
    pub home: PathBuf,
    /// Home directories of people other than the caller that the password file names; a project must not be one.
    pub other_homes: Vec<PathBuf>,
}

/// One line of passwd(5), as far as it matters here.
struct Entry<'a> {
    name: &'a [u8],
    uid: u32,
    home: &'a [u8],
    shell: &'a [u8],
}

/// Determines the caller's account. `HOME` wins over the password database, as for every shell.
///
/// # Errors
/// When no usable home exists.
pub fn account(home_variable: Option<&OsStr>) -> Result<Account, UserError> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let text = read_bounded(Path::new("/etc/passwd")).unwrap_or_default();
    let mut found: Option<Entry<'_>> = None;
    let mut other_homes = Vec::new();
    for entry in text.split(|byte| *byte == b'\n').filter_map(parse_line) {
        if entry.uid == uid {
            found.get_or_insert(entry);
        } else if (entry.uid == 0 || entry.uid >= FIRST_PERSON) && entry.home.len() > 1 {
            other_homes.push(path_of(entry.home));
        }
    }
    let asked;
    if found.is_none() {
        asked = ask_name_services(uid);
        found = asked
            .split(|byte| *byte == b'\n')
            .filter_map(parse_line)
            .find(|entry| entry.uid == uid);
    }
    let named = found.as_ref().map(|entry| {
        (
            String::from_utf8_lossy(entry.name).into_owned(),
            path_of(entry.home),
            path_of(entry.shell),
        )
    });
    let home = home_variable
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| named.as_ref().map(|(_, home, _)| home.clone()))
        .filter(|path| path.is_absolute())
        .ok_or(UserError::NoHome { uid })?;
    let canonical = std::fs::canonicalize(&home)
        .and_then(|path| match std::fs::metadata(&path) {
            Ok(data) if data.is_dir() => Ok(path),
            Ok(_) => Err(std::io::Error::from(std::io::ErrorKind::NotADirectory)),
            Err(error) => Err(error),
        })
        .map_err(|source| UserError::BadHome { path: home, source })?;
    if canonical == Path::new("/") {
        return Err(UserError::RootHome);
    }
    let (name, _, shell) = named.unwrap_or_else(|| (String::new(), PathBuf::new(), PathBuf::new()));
    Ok(Account {
        user: User {
            uid,
            gid,
            name: if is_plain_name(&name) {
                name
            } else {
                "user".to_owned()
            },
            shell: usable_shell(shell),
        },
        other_homes: other_homes
            .into_iter()
            .filter(|other| *other != canonical)
            .collect(),
        home: canonical,
    })
}

/// The lines of passwd(5) that the name services have for an id; none when nobody could be asked.
fn ask_name_services(uid: u32) -> Vec<u8> {
    let program = GETENT.into_iter().find(|path| Path::new(path).exists());
    let output = program.and_then(|program| {
        let mut getent = Command::new(program);
        getent.args(["passwd", &uid.to_string()]);
        getent.stdin(Stdio::null()).stderr(Stdio::null());
        getent.output().ok()
    });
    output.map(|output| output.stdout).unwrap_or_default()
}

/// Splits one line of passwd(5): `name:password:uid:gid:gecos:home:shell`.
fn parse_line(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next()?;
    let uid = std::str::from_utf8(fields.nth(1)?).ok()?.parse().ok()?;
    let home = fields.nth(2)?;
    let shell = fields.next()?;
    Some(Entry {
        name,
        uid,
        home,
        shell,
    })
}

/// A login name that can be written into a password file inside without changing its meaning.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-@+$".contains(&byte))
        && !name.starts_with(['-', '+'])
}

/// The login shell when it can be executed, else `/bin/sh`. A shell that only refuses logins is no shell.
fn usable_shell(shell: PathBuf) -> PathBuf {
    let refuses = matches!(
        shell.file_name().map(OsStr::as_bytes),
        None | Some(b"nologin" | b"false" | b"true" | b"sync" | b"shutdown" | b"halt")
    );
    if !refuses
        && shell.is_absolute()
        && rustix::fs::access(&shell, rustix::fs::Access::EXEC_OK).is_ok()
    {
        shell
    } else {
        PathBuf::from("/bin/sh")
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::with_capacity(8 << 10);
    std::fs::File::open(path)?
        .take(PASSWORD_FILE_LIMIT as u64 + 1)
        .read_to_end(&mut text)?;
    if text.len() > PASSWORD_FILE_LIMIT {
        text.clear();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passwd_line_is_split_and_a_broken_one_is_skipped() {
        let entry = parse_line(b"ann:x:1000:1000:Ann,,,:/home/ann:/bin/bash").unwrap();
        assert_eq!((entry.name, entry.uid), (&b"ann"[..], 1000));
        assert_eq!(
            (entry.home, entry.shell),
            (&b"/home/ann"[..], &b"/bin/bash"[..])
        );
        for broken in [
            &b""[..],
            b"ann",
            b"ann:x:abc:0::/:/bin/sh",
            b"ann:x:1:1::/home",
        ] {
            assert!(parse_line(broken).is_none());
        }
    }

    #[test]
    fn the_name_services_know_root_and_not_a_free_id() {
        let text = ask_name_services(0);
        let root = text.split(|byte| *byte == b'\n').find_map(parse_line);
        assert_eq!(root.unwrap().home, b"/root");
        assert_eq!(ask_name_services(u32::MAX - 7), b"");
    }

    #[test]
    fn names_that_would_break_a_password_file_are_replaced() {
        for bad in ["", "a:b", "a\nb", "-x", "a b", "\u{e4}"] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
        assert!(is_plain_name("ann.smith@corp"));
    }

    #[test]
    fn shells_that_refuse_are_not_used() {
        for bad in [
            "/usr/sbin/nologin",
            "/bin/false",
            "bash",
            "",
            "/nonexistent/shell",
        ] {
            assert_eq!(
                usable_shell(PathBuf::from(bad)),
                Path::new("/bin/sh"),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_home_variable_must_be_a_directory_other_than_the_root() {
        assert!(matches!(
            account(Some(OsStr::new("/"))),
            Err(UserError::RootHome)
        ));
        assert!(matches!(
            account(Some(OsStr::new("/etc/passwd"))),
            Err(UserError::BadHome { .. })
        ));
        let found = account(Some(OsStr::new("/usr/."))).unwrap();
        assert_eq!(found.home, Path::new("/usr"));
    }
}
