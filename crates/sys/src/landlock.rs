//! Which version of Landlock the running kernel offers. The rules themselves are built elsewhere.

/// `LANDLOCK_CREATE_RULESET_VERSION` of `linux/landlock.h`.
const CREATE_RULESET_VERSION: libc::c_uint = 1;

/// Asks the kernel for its Landlock ABI: `landlock_create_ruleset(2)`, Linux 5.13, `CONFIG_SECURITY_LANDLOCK`.
///
/// 0 when the call is missing (ENOSYS) or Landlock is not among the active security modules (EOPNOTSUPP).
#[must_use]
pub fn abi() -> u32 {
    // SAFETY:
    // - with LANDLOCK_CREATE_RULESET_VERSION the kernel requires a null attribute and size 0 and reads no memory.
    // - the result is a number, never a descriptor, so nothing needs closing.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(answer).unwrap_or(0)
}
