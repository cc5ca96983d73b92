//! Where Rust's allocations come from.

/// Every tensor operation allocates its result. glibc returns such blocks to the system at once, and the page faults then
/// cost as much as the arithmetic.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Address space for a few streams.
#[cfg(feature = "plugin")]
const RESERVED: usize = 128 << 20;

/// Reserves address space, if called before the first allocation: otherwise that reserves 1 GiB, which other libraries then
/// lack in a process with a limit (`ulimit -v`).
#[cfg(feature = "plugin")]
#[expect(unsafe_code, reason = "a function of mimalloc that has no binding")]
pub(crate) fn reserve() {
    unsafe extern "C" {
        /// Returns 0, or an error code if there is not as much.
        fn mi_reserve_os_memory(size: usize, commit: bool, allow_large: bool) -> std::ffi::c_int;
    }
    // SAFETY: the signature is that of mimalloc.h, and it may be called at any time. Without room, allocations still get
    // single blocks from the system.
    let _ = unsafe { mi_reserve_os_memory(RESERVED, false, false) };
}
