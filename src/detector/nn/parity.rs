//! Along one axis of an enlarged picture: which places share a kernel.

/// Output places of one axis that share a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parity {
    /// First place and how many there are, every second one.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Where the first one's window over the padded small picture starts, and its length.
    pub(super) window: usize,
    pub(super) taps: usize,
    /// The layer's tap that is added to the window's first one is this or a later one.
    offset: usize,
    /// A tap that falls onto what was cropped.
    pub(super) missing: Option<usize>,
}

impl Parity {
    /// Which tap of the window the layer's tap `t` is added to.
    pub(super) fn place(&self, t: usize) -> Option<usize> {
        (self.missing != Some(t)).then_some((t + self.offset) / 2)
    }
}

/// Small places of one axis whose gradients meet the output in the same way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Copies that the enlarged picture has of it: two, or one where it was cropped.
    pub(super) copies: usize,
    kernel: usize,
}

impl Source {
    /// Length of the window over the padded gradient of the output.
    pub(super) fn taps(&self) -> usize {
        self.kernel + self.copies - 1
    }

    /// Places of the window that meet the layer's tap `t`, one for each copy.
    pub(super) fn places(&self, t: usize) -> std::ops::Range<usize> {
        let first = self.kernel - 1 - t;
        first..first + self.copies
    }
}

/// The kinds of output places where an axis of `size`, enlarged and cropped, meets a kernel with padding.
pub(super) fn parities(size: usize, kernel: usize, padding: usize) -> Vec<Parity> {
    let out = size + 2 * padding + 1 - kernel;
    // From here on the cropped half of the last small place would be met.
    let whole = match size % 2 {
        0 => out,
        _ => (size + padding + 1).saturating_sub(kernel).min(out),
    };
    let kind = |first: usize, count: usize, missing: Option<usize>| {
        let even_margin = 2 * padding.div_ceil(2);
        let start = first + even_margin - padding;
        Parity {
            first,
            count,
            window: start / 2,
            taps: (start % 2 + kernel - 1) / 2 + 1,
            offset: start % 2,
            missing,
        }
    };
    let regular = (0..2).map(|parity| kind(parity, whole.saturating_sub(parity).div_ceil(2), None));
    let cropped = (whole..out).map(|place| kind(place, 1, Some(size + padding - place)));
    regular.chain(cropped).filter(|kind| kind.count > 0).collect()
}

/// The kinds of small places under an axis of `size`, enlarged and cropped.
pub(super) fn sources(size: usize, kernel: usize) -> Vec<Source> {
    let kind = |first, count, copies| Source {
        first,
        count,
        copies,
        kernel,
    };
    let kinds = [kind(0, size / 2, 2), kind(size / 2, size % 2, 1)];
    kinds.into_iter().filter(|kind| kind.count > 0).collect()
}
