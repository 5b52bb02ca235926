//! The password database through the C library, so that every name service of the host is asked.
//!
//! Must not be called after fork: name services allocate, lock and open sockets.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Upper bound of the buffer for one record, in bytes (`_SC_GETPW_R_SIZE_MAX` suggests 1 KiB).
const RECORD_LIMIT: usize = 1 << 20;

/// One record of the password database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Login name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Home directory as recorded.
    pub home: PathBuf,
    /// Login shell as recorded.
    pub shell: PathBuf,
}

/// Looks a user id up: `getpwuid_r(3)`. `None` when no database has it or none could be asked.
#[must_use]
pub fn by_id(uid: u32) -> Option<UserRecord> {
    let mut buffer: Vec<libc::c_char> = vec![0; 1024];
    loop {
        let mut record = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut result: *mut libc::passwd = std::ptr::null_mut();
        // SAFETY:
        // - `record` is memory for one passwd, owned by this frame; the call writes it only when it succeeds.
        // - `buffer` is `buffer.len()` writable bytes that outlive every use of `record` below.
        // - `result` is a pointer of this frame; the call sets it to null or to `record`.
        let code = unsafe {
            libc::getpwuid_r(
                uid,
                record.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut result,
            )
        };
        match code {
            libc::ERANGE if buffer.len() < RECORD_LIMIT => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            0 if !result.is_null() => {
                // SAFETY: code 0 with a non-null result means that the call filled `record`.
                let record = unsafe { record.assume_init() };
                return Some(UserRecord {
                    name: String::from_utf8_lossy(text(record.pw_name)).into_owned(),
                    home: PathBuf::from(OsStr::from_bytes(text(record.pw_dir))),
                    shell: PathBuf::from(OsStr::from_bytes(text(record.pw_shell))),
                });
            }
            _ => return None,
        }
    }
}

/// Borrows the bytes of a string of the record; null counts as empty.
fn text<'a>(pointer: *const libc::c_char) -> &'a [u8] {
    if pointer.is_null() {
        return b"";
    }
    // SAFETY:
    // - not null, and getpwuid_r(3) ends every string of a record with NUL inside the caller's buffer.
    // - the buffer lives in `by_id` until the strings were copied; `text` is private and has no other caller.
    unsafe { CStr::from_ptr(pointer) }.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_a_free_id_is_not() {
        assert_eq!(by_id(0).unwrap().home, PathBuf::from("/root"));
        assert_eq!(by_id(u32::MAX - 7), None);
    }
}
