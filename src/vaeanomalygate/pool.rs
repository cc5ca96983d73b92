//! Whether holding a buffer back could starve the element that made it.

use gst::prelude::*;

/// Whether the buffer, or one it was cut from, goes back to a pool that makes only so many buffers.
pub(super) fn is_of_limited_pool(buffer: &gst::BufferRef) -> bool {
    let of_limited_pool = |buffer: &gst::BufferRef| pool(buffer).is_some_and(|pool| is_limited(&pool));
    of_limited_pool(buffer)
        || buffer
            .iter_meta::<gst::meta::ParentBufferMeta>()
            .any(|meta| of_limited_pool(meta.parent()))
}

fn is_limited(pool: &gst::BufferPool) -> bool {
    pool.config()
        .params()
        .is_some_and(|(_, _, _, max_buffers)| max_buffers > 0)
}

#[expect(unsafe_code, reason = "the bindings have no getter for a buffer's pool")]
fn pool(buffer: &gst::BufferRef) -> Option<gst::BufferPool> {
    // SAFETY: a buffer holds a reference to its pool, or a null pointer, for as long as it lives.
    unsafe { gst::glib::translate::from_glib_none((*buffer.as_ptr()).pool) }
}
