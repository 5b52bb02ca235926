//! The one leaf error of this crate: a system call that failed, on what, with which errno.
//!
//! Must not: know why the caller made the call, or give advice. Hints belong to the layers above.

use std::borrow::Cow;
use std::fmt;

use rustix::io::Errno;

/// A system call that the kernel refused.
///
/// Shown as `fsmount(2) on /x: Operation not permitted (EPERM)`; the part `on …` is left out when `on` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysError {
    /// The call with its manual section, for example `fsmount(2)`.
    pub call: &'static str,
    /// The object the call was made on (a path, an interface, an address); may be empty.
    pub on: String,
    /// What the kernel answered.
    pub errno: Errno,
}

impl SysError {
    /// Names a failed call.
    pub fn new(call: &'static str, on: impl Into<String>, errno: Errno) -> Self {
        Self {
            call,
            on: on.into(),
            errno,
        }
    }

    /// Adapts `map_err` to calls that report an [`Errno`]: `call().map_err(SysError::at("fsmount(2)", path))`.
    pub fn at(call: &'static str, on: impl Into<String>) -> impl FnOnce(Errno) -> Self {
        let on = on.into();
        move |errno| Self::new(call, on, errno)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        if !self.on.is_empty() {
            write!(f, " on {}", self.on)?;
        }
        write!(f, ": {}", describe_errno(self.errno))
    }
}

impl std::error::Error for SysError {}

/// Describes an errno as text and symbol: `Operation not permitted (EPERM)`.
pub fn describe_errno(errno: Errno) -> String {
    let full = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    // The standard library appends the number; the symbol is what manual pages are searched by.
    let text = full.split(" (os error").next().unwrap_or(&full);
    format!("{text} ({})", errno_name(errno))
}

/// Looks up the symbol of an errno; numbers outside the table are shown as `errno N`.
///
/// Source: `errno(3)`. The table holds what the calls of this crate are documented to return.
pub fn errno_name(errno: Errno) -> Cow<'static, str> {
    macro_rules! names {
        ($($symbol:literal => $errno:ident),+ $(,)?) => {
            match errno {
                $(Errno::$errno => Cow::Borrowed($symbol),)+
                other => Cow::Owned(format!("errno {}", other.raw_os_error())),
            }
        };
    }
    names! {
        "E2BIG" => TOOBIG, "EACCES" => ACCESS, "EADDRINUSE" => ADDRINUSE, "EADDRNOTAVAIL" => ADDRNOTAVAIL,
        "EAFNOSUPPORT" => AFNOSUPPORT, "EAGAIN" => AGAIN, "EALREADY" => ALREADY, "EBADF" => BADF,
        "EBADMSG" => BADMSG, "EBUSY" => BUSY, "ECANCELED" => CANCELED, "ECHILD" => CHILD,
        "ECONNABORTED" => CONNABORTED, "ECONNREFUSED" => CONNREFUSED, "ECONNRESET" => CONNRESET,
        "EDEADLK" => DEADLK, "EDESTADDRREQ" => DESTADDRREQ, "EDOM" => DOM, "EDQUOT" => DQUOT,
        "EEXIST" => EXIST, "EFAULT" => FAULT, "EFBIG" => FBIG, "EHOSTDOWN" => HOSTDOWN,
        "EHOSTUNREACH" => HOSTUNREACH, "EIDRM" => IDRM, "EILSEQ" => ILSEQ, "EINPROGRESS" => INPROGRESS,
        "EINTR" => INTR, "EINVAL" => INVAL, "EIO" => IO, "EISCONN" => ISCONN, "EISDIR" => ISDIR,
        "EKEYEXPIRED" => KEYEXPIRED, "EKEYREJECTED" => KEYREJECTED, "EKEYREVOKED" => KEYREVOKED,
        "ELOOP" => LOOP, "EMFILE" => MFILE, "EMLINK" => MLINK, "EMSGSIZE" => MSGSIZE,
        "ENAMETOOLONG" => NAMETOOLONG, "ENETDOWN" => NETDOWN, "ENETUNREACH" => NETUNREACH,
        "ENFILE" => NFILE, "ENOBUFS" => NOBUFS, "ENODATA" => NODATA, "ENODEV" => NODEV, "ENOENT" => NOENT,
        "ENOEXEC" => NOEXEC, "ENOKEY" => NOKEY, "ENOLCK" => NOLCK, "ENOMEM" => NOMEM,
        "ENOPROTOOPT" => NOPROTOOPT, "ENOSPC" => NOSPC, "ENOSYS" => NOSYS, "ENOTBLK" => NOTBLK,
        "ENOTCONN" => NOTCONN, "ENOTDIR" => NOTDIR, "ENOTEMPTY" => NOTEMPTY, "ENOTSOCK" => NOTSOCK,
        "ENOTTY" => NOTTY, "ENXIO" => NXIO, "EOPNOTSUPP" => OPNOTSUPP, "EOVERFLOW" => OVERFLOW,
        "EPERM" => PERM, "EPIPE" => PIPE, "EPROTO" => PROTO, "EPROTONOSUPPORT" => PROTONOSUPPORT,
        "ERANGE" => RANGE, "EROFS" => ROFS, "ESPIPE" => SPIPE, "ESRCH" => SRCH, "ESTALE" => STALE,
        "ETIMEDOUT" => TIMEDOUT, "ETXTBSY" => TXTBSY, "EUSERS" => USERS, "EXDEV" => XDEV,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_call_object_text_and_symbol() {
        let error = SysError::new("fsmount(2)", "/x", Errno::PERM);
        assert_eq!(
            error.to_string(),
            "fsmount(2) on /x: Operation not permitted (EPERM)"
        );
    }

    #[test]
    fn leaves_out_an_empty_object() {
        let error = SysError::new("socket(2)", "", Errno::AFNOSUPPORT);
        assert_eq!(
            error.to_string(),
            "socket(2): Address family not supported by protocol (EAFNOSUPPORT)"
        );
    }

    #[test]
    fn unknown_numbers_keep_their_number() {
        assert_eq!(errno_name(Errno::from_raw_os_error(4000)), "errno 4000");
    }
}
