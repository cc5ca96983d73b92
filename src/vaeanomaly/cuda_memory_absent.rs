//! Stands for frames in CUDA memory in a build without feature `cuda`: there are none.

/// No caps.
pub(super) fn caps() -> gst::Caps {
    gst::Caps::new_empty()
}

/// No context.
#[derive(Default)]
pub(super) struct SharedContext;

impl SharedContext {
    pub(super) fn set(&self, _: &gst::Element, _: &gst::Context, _: Option<usize>) {}

    pub(super) fn answer(&self, _: &gst::Element, _: &mut gst::QueryRef) -> bool {
        false
    }

    pub(super) fn negotiated(&self, _: &gst_base::BaseTransform, _: &gst::CapsRef) {}

    pub(super) fn clear(&self) {}
}
