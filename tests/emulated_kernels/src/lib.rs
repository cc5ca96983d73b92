//! The CUDA engine's kernels, compiled as C++: the same source, a job at a time, on the CPU.

use std::ffi::c_void;

unsafe extern "C" {
    fn emulated_run(train: i32, reverse: i32, job: *const c_void, shared: *mut f32, work: *mut f32);
    fn emulated_score_in_team(job: *const c_void, shared: *mut f32, pitch: usize, work: *mut f32);
    fn emulated_reduce(reverse: i32, blocks: i32, reduction: *const c_void);
    static emulated_reduction_layout_len: usize;
    static emulated_reduction_layout: [usize; 1];
    static emulated_layout_len: usize;
    // Longer than declared: `emulated_layout_len` values.
    static emulated_layout: [usize; 1];
    static emulated_threads_of_a_block: i32;
    static emulated_blocks_of_a_team: i32;
}

/// Runs one job, a training step or a score. `reverse`: the tasks of each phase in the other order.
///
/// # Safety
/// `job` is a `Job` of `layout.cuh` whose addresses are valid on this machine; `shared` and `work` have the floats that
/// its net needs, aligned to 16 bytes.
pub unsafe fn run(train: bool, reverse: bool, job: *const c_void, shared: *mut f32, work: *mut f32) {
    // SAFETY: the caller's.
    unsafe { emulated_run(i32::from(train), i32::from(reverse), job, shared, work) }
}

/// Runs one score in a team of blocks, each on a thread of its own.
///
/// # Safety
/// As that of [`run`], but `shared` has `pitch` floats for each of [`team`] blocks, a multiple of four.
pub unsafe fn score_in_team(job: *const c_void, shared: *mut f32, pitch: usize, work: *mut f32) {
    // SAFETY: the caller's.
    unsafe { emulated_score_in_team(job, shared, pitch, work) }
}

/// Blocks of a team.
#[must_use]
pub fn team() -> usize {
    // SAFETY: a constant.
    unsafe { emulated_blocks_of_a_team as usize }
}

/// Reduces a frame to both small images with so many blocks. `reverse`: the tasks of each phase in the other order.
///
/// # Safety
/// `reduction` is a `Reduction` of `reduce.cuh` whose addresses are valid on this machine.
pub unsafe fn reduce(reverse: bool, blocks: i32, reduction: *const c_void) {
    // SAFETY: the caller's.
    unsafe { emulated_reduce(i32::from(reverse), blocks, reduction) }
}

/// Sizes and offsets of the structures of `reduce.cuh`, in the order of `emulated.cpp`, the cells of a tile,
/// and the most rows of a run.
#[must_use]
pub fn reduction_layout() -> &'static [usize] {
    // SAFETY: the array has so many values, and is constant.
    unsafe {
        std::slice::from_raw_parts(
            (&raw const emulated_reduction_layout).cast(),
            emulated_reduction_layout_len,
        )
    }
}

/// Sizes and offsets of the structures of `layout.cuh`, in the order of `emulated.cpp`.
#[must_use]
pub fn layout() -> &'static [usize] {
    // SAFETY: the array has so many values, and is constant.
    unsafe { std::slice::from_raw_parts((&raw const emulated_layout).cast(), emulated_layout_len) }
}

/// Threads of a block on a GPU.
#[must_use]
pub fn threads() -> usize {
    // SAFETY: a constant.
    unsafe { emulated_threads_of_a_block as usize }
}
