//! Sums of rows, byte by byte.

/// Most rows whose sums stay within fifteen bits.
pub(super) const MAX_ROWS: usize = i16::MAX as usize / u8::MAX as usize;

/// Rows that are added at once, so that sums are loaded and stored less often.
const GROUP: usize = 4;

/// Some rows of a plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    pub(super) plane: &'a [u8],
    pub(super) stride: usize,
    /// Bytes of a row that count.
    pub(super) bytes: usize,
    pub(super) first: usize,
    pub(super) end: usize,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    fn row(&self, index: usize) -> &'a [u8] {
        &self.plane[index * self.stride..][..self.bytes]
    }
}

/// Sums of rows, one a byte.
#[derive(Debug, Default)]
pub(super) struct Columns {
    /// All sums in the first part; or, split, those of even bytes in the first part, of odd bytes in the
    /// second. Longer than a row, since sums of cells may read beyond its end.
    parts: [Vec<u16>; 2],
}

impl Columns {
    /// Makes room for rows of `bytes` and, in each part, as many more sums as `window`.
    pub(super) fn grow(&mut self, bytes: usize, window: usize) {
        for part in &mut self.parts {
            part.resize(part.len().max(bytes + window), 0);
        }
    }

    pub(super) fn part(&self, index: usize) -> &[u16] {
        &self.parts[index]
    }

    /// Adds up rows, at most [`MAX_ROWS`]. Splitting is for rows of an even number of bytes.
    pub(super) fn sum(&mut self, rows: Rows<'_>, split: bool) {
        #[cfg(target_arch = "x86_64")]
        if super::wide::is_available() {
            #[allow(unsafe_code, reason = "what the processor has is known only when running")]
            // SAFETY: the processor was just asked.
            return unsafe { self.sum_wide(rows, split) };
        }
        self.sum_portable(rows, split);
    }

    /// The portable code, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn sum_wide(&mut self, rows: Rows<'_>, split: bool) {
        self.sum_portable(rows, split);
    }

    #[inline(always)]
    fn sum_portable(&mut self, rows: Rows<'_>, split: bool) {
        let [whole, odd] = &mut self.parts;
        if split {
            let pairs = rows.bytes / 2;
            sum_split(&mut whole[..pairs], &mut odd[..pairs], rows);
        } else {
            sum_whole(&mut whole[..rows.bytes], rows);
        }
    }
}

#[inline(always)]
fn sum_whole(sums: &mut [u16], rows: Rows<'_>) {
    sums.fill(0);
    let mut index = rows.first;
    while index + GROUP <= rows.end {
        let (a, b, c, d) = (
            rows.row(index),
            rows.row(index + 1),
            rows.row(index + 2),
            rows.row(index + 3),
        );
        for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
            *sum += u16::from(*a) + u16::from(*b) + u16::from(*c) + u16::from(*d);
        }
        index += GROUP;
    }
    for index in index..rows.end {
        for (sum, byte) in sums.iter_mut().zip(rows.row(index)) {
            *sum += u16::from(*byte);
        }
    }
}

#[inline(always)]
fn sum_split(even: &mut [u16], odd: &mut [u16], rows: Rows<'_>) {
    even.fill(0);
    odd.fill(0);
    let pairs = |index| rows.row(index).as_chunks::<2>().0;
    let low = |pair: &[u8; 2]| u16::from_le_bytes(*pair) & 0xff;
    let high = |pair: &[u8; 2]| u16::from_le_bytes(*pair) >> 8;
    let mut index = rows.first;
    while index + GROUP <= rows.end {
        let (a, b, c, d) = (pairs(index), pairs(index + 1), pairs(index + 2), pairs(index + 3));
        let sums = even.iter_mut().zip(odd.iter_mut());
        for (((((even, odd), a), b), c), d) in sums.zip(a).zip(b).zip(c).zip(d) {
            *even += low(a) + low(b) + low(c) + low(d);
            *odd += high(a) + high(b) + high(c) + high(d);
        }
        index += GROUP;
    }
    for index in index..rows.end {
        for ((even, odd), pair) in even.iter_mut().zip(odd.iter_mut()).zip(pairs(index)) {
            *even += low(pair);
            *odd += high(pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_split_sums_are_those_of_single_bytes() {
        let (bytes, stride) = (38, 41);
        let plane: Vec<u8> = (0..stride * MAX_ROWS).map(|i| (i * i % 253) as u8).collect();
        let mut columns = Columns::default();
        columns.grow(bytes, 8);
        for (first, end) in [(0, 1), (3, 7), (5, 18), (0, MAX_ROWS)] {
            let rows = Rows {
                plane: &plane,
                stride,
                bytes,
                first,
                end,
            };
            let expected: Vec<u16> = (0..bytes)
                .map(|byte| {
                    (first..end)
                        .map(|row| u16::from(plane[row * stride + byte]))
                        .sum()
                })
                .collect();
            columns.sum(rows, false);
            let best = columns.part(0).to_vec();
            columns.sum_portable(rows, false);
            assert_eq!(columns.part(0), best);
            assert_eq!(columns.part(0)[..bytes], expected);
            columns.sum(rows, true);
            for (byte, expected) in expected.iter().enumerate() {
                assert_eq!(
                    columns.part(byte % 2)[byte / 2],
                    *expected,
                    "byte {byte} of {first}..{end}"
                );
            }
        }
    }
}
