//! Frames at which a decoder can start.
//!
//! Parsers mark more than IDR frames of H.264 and H.265 as key frames: recovery points (open groups of pictures, intra
//! refresh), and in H.264 all frames with an intra slice. What follows these may refer to frames before them.

use super::state::LONGEST_GROUP;

#[derive(Debug, Clone, Copy)]
enum Codec {
    H264,
    H265,
}

impl Codec {
    /// Whether a NAL unit with this first byte belongs to an IDR frame (H.265: or a BLA frame); `None` if it is no part of a
    /// frame. Rec. ITU-T H.264, table 7-1, and H.265, table 7-1.
    fn is_idr(self, header: u8) -> Option<bool> {
        match (self, header & 0x1f, header >> 1 & 0x3f) {
            (Codec::H264, kind @ 1..=5, _) => Some(kind == 5),
            (Codec::H265, _, kind @ 0..=31) => Some((16..=20).contains(&kind)),
            _ => None,
        }
    }
}

/// Finds the key frames of a stream.
#[derive(Debug, Default)]
pub(super) struct KeyFrames {
    /// Codec, and the bytes of the length before each NAL unit; `None` where start codes separate them.
    format: Option<(Codec, Option<usize>)>,
    last_idr: Option<gst::ClockTime>,
}

impl KeyFrames {
    /// The stream's format.
    pub(super) fn set_caps(&mut self, caps: &gst::CapsRef) {
        self.format = caps.structure(0).and_then(format);
        self.last_idr = None;
    }

    /// Whether the frame at this running time counts as a key frame. Where an IDR frame is at most [`LONGEST_GROUP`] back,
    /// other frames that are marked as key frames do not.
    pub(super) fn is_key(&mut self, buffer: &gst::BufferRef, at: gst::ClockTime) -> bool {
        if buffer.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            return false;
        }
        let Some((codec, length_size)) = self.format else {
            return true;
        };
        let Ok(content) = buffer.map_readable() else {
            return true;
        };
        match headers(&content, length_size).find_map(|header| codec.is_idr(header)) {
            Some(true) => self.last_idr = Some(at),
            Some(false) => return self.last_idr.is_none_or(|idr| idr.absdiff(at) > LONGEST_GROUP),
            None => {}
        }
        true
    }
}

fn format(caps: &gst::StructureRef) -> Option<(Codec, Option<usize>)> {
    // The byte of the decoder configuration record that has the size of lengths, less one, in its lowest two bits.
    let (codec, size_at) = match caps.name().as_str() {
        "video/x-h264" => (Codec::H264, 4),
        "video/x-h265" => (Codec::H265, 21),
        _ => return None,
    };
    if caps.get("stream-format") == Ok("byte-stream") {
        return Some((codec, None));
    }
    let record = caps.get::<gst::Buffer>("codec_data").ok();
    let record = record.and_then(|record| record.into_mapped_buffer_readable().ok());
    let size = record.and_then(|record| record.get(size_at).map(|byte| usize::from(byte & 3) + 1));
    Some((codec, Some(size.unwrap_or(4))))
}

/// The first bytes of the NAL units in `content`.
fn headers(mut content: &[u8], length_size: Option<usize>) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (length, unit) = match length_size {
            Some(size) => content.split_at_checked(size)?,
            None => {
                let code = content.windows(3).position(|bytes| bytes == [0, 0, 1])?;
                (&[][..], &content[code + 3..])
            }
        };
        let length = length
            .iter()
            .fold(0usize, |length, byte| length << 8 | usize::from(*byte));
        content = unit.get(length..).unwrap_or_default();
        unit.first().copied()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 1, 2, 3];
    const IDR: &[u8] = &[0x65, 0x88];
    /// A slice that is not of an IDR frame.
    const SLICE: &[u8] = &[0x41, 0x9a];

    fn content(units: &[&[u8]], length_size: Option<usize>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for unit in units {
            match length_size {
                Some(size) => bytes.extend(&(unit.len() as u32).to_be_bytes()[4 - size..]),
                None => bytes.extend([0, 0, 0, 1]),
            }
            bytes.extend(*unit);
        }
        bytes
    }

    fn caps(name: &str, stream_format: &str, codec_data: Option<Vec<u8>>) -> gst::Caps {
        gst::init().unwrap();
        let caps = gst::Caps::builder(name).field("stream-format", stream_format);
        match codec_data {
            Some(data) => caps
                .field("codec_data", gst::Buffer::from_mut_slice(data))
                .build(),
            None => caps.build(),
        }
    }

    fn is_key(keys: &mut KeyFrames, content: Vec<u8>, seconds: u64) -> bool {
        keys.is_key(
            &gst::Buffer::from_mut_slice(content),
            gst::ClockTime::from_seconds(seconds),
        )
    }

    #[test]
    fn other_key_frames_count_only_without_an_idr_frame_shortly_before() {
        let two_bytes = vec![1, 0x64, 0, 10, 0xfd, 0xe1];
        for (stream_format, codec_data, length_size) in [
            ("byte-stream", None, None),
            ("avc", None, Some(4)),
            ("avc", Some(two_bytes), Some(2)),
        ] {
            let mut keys = KeyFrames::default();
            keys.set_caps(&caps("video/x-h264", stream_format, codec_data));
            let mut test = |units: &[&[u8]], seconds| is_key(&mut keys, content(units, length_size), seconds);
            assert!(
                test(&[SPS, SLICE], 0),
                "{stream_format}: there was no IDR frame yet"
            );
            assert!(test(&[SPS, IDR], 1));
            assert!(!test(&[SLICE, SLICE], 2), "{stream_format}");
            assert!(!test(&[SPS, SLICE], 6));
            assert!(test(&[SPS, SLICE], 7));
            // After a jump in time.
            assert!(test(&[IDR], 3600));
            assert!(!test(&[SLICE], 3601));
            assert!(test(&[SLICE], 10));
            assert!(test(&[SPS], 3601), "what is no frame stays as it is marked");
        }
    }

    #[test]
    fn the_kinds_of_h265() {
        let kinds = |kind: u8| Codec::H265.is_idr(kind << 1);
        assert!([16, 18, 19, 20].into_iter().all(|kind| kinds(kind) == Some(true)));
        assert!([0, 1, 9, 21].into_iter().all(|kind| kinds(kind) == Some(false)));
        assert!([32, 33, 34, 39].into_iter().all(|kind| kinds(kind).is_none()));
        let mut record = vec![0; 23];
        record[21] = 0xf0 | 3;
        let caps = caps("video/x-h265", "hvc1", Some(record));
        let format = format(caps.structure(0).unwrap());
        assert!(matches!(format, Some((Codec::H265, Some(4)))));
    }

    #[test]
    fn damaged_content_and_other_codecs_stay_as_they_are_marked() {
        let mut keys = KeyFrames::default();
        assert!(is_key(&mut keys, content(&[SLICE], None), 1));
        keys.set_caps(&caps("video/x-h264", "avc", None));
        for damaged in [&[][..], &[0, 0], &[0xff; 3], &[0xff; 4], &[0xff; 9], &[0; 8]] {
            assert!(is_key(&mut keys, damaged.to_vec(), 1), "{damaged:?}");
        }
        assert!(headers(&[0, 0, 1], None).next().is_none());
    }
}
