//! Sums of rows, byte by byte.

/// Most rows whose sums stay within sixteen bits with sign.
pub(super) const MAX_ROWS: usize = i16::MAX as usize / u8::MAX as usize;

/// Rows that are added at once, so that sums are loaded and stored less often.
const GROUP: usize = 4;

/// Sums of the rows `first..end` of a plane, at most [`MAX_ROWS`], one sum a byte.
pub(super) fn sum_rows(columns: &mut [i16], plane: &[u8], stride: usize, first: usize, end: usize) {
    let width = columns.len();
    let row = |index: usize| &plane[index * stride..][..width];
    columns.fill(0);
    let mut index = first;
    while index + GROUP <= end {
        add_group(columns, [row(index), row(index + 1), row(index + 2), row(index + 3)]);
        index += GROUP;
    }
    for index in index..end {
        for (sum, byte) in columns.iter_mut().zip(row(index)) {
            *sum += i16::from(*byte);
        }
    }
}

fn add_group(columns: &mut [i16], [a, b, c, d]: [&[u8]; GROUP]) {
    for ((((sum, a), b), c), d) in columns.iter_mut().zip(a).zip(b).zip(c).zip(d) {
        *sum += i16::from(*a) + i16::from(*b) + i16::from(*c) + i16::from(*d);
    }
}
