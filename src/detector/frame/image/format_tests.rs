//! Valid and invalid views.

use super::*;

fn message(result: Result<()>) -> String {
    match result {
        Err(Error::Image(message)) => message,
        other => panic!("expected an image error, got {other:?}"),
    }
}

#[test]
fn names_are_unique_and_lead_back() {
    for format in PixelFormat::ALL {
        assert_eq!(PixelFormat::from_name(format.name()), Some(format));
    }
    assert_eq!(PixelFormat::from_name("I420_10LE"), None);
}

#[test]
fn chroma_of_odd_sizes_is_rounded_up() {
    assert_eq!(PixelFormat::I420.row_bytes(1, 17), 9);
    assert_eq!(PixelFormat::I420.plane_rows(2, 17), 9);
    assert_eq!(PixelFormat::Nv12.row_bytes(1, 17), 18);
    assert_eq!(PixelFormat::Nv16.plane_rows(1, 17), 17);
    assert_eq!(PixelFormat::P010Le.row_bytes(1, 17), 36);
    assert_eq!(PixelFormat::Yuy2.row_bytes(0, 17), 36);
    assert_eq!(PixelFormat::Y42b.row_bytes(2, 17), 9);
}

#[test]
fn last_row_may_be_short() {
    assert_eq!(PixelFormat::Rgb.plane_bytes(0, 20, 16, 64), 15 * 64 + 60);
    let bytes = vec![0; 15 * 64 + 60];
    let view = |bytes: &[u8]| {
        ImageView {
            format: PixelFormat::Rgb,
            width: 20,
            height: 16,
            planes: &[bytes],
            strides: &[64],
            color: ColorModel::JPEG,
        }
        .validate()
    };
    view(&bytes).unwrap();
    let error = message(view(&bytes[1..]));
    assert!(
        error.contains("plane 0") && error.contains("1020") && error.contains("1019"),
        "{error}"
    );
}

#[test]
fn errors_name_numbers() {
    let luma = vec![0; 16 * 16];
    let chroma = vec![0; 8 * 8];
    let planes: [&[u8]; 3] = [&luma, &chroma, &chroma];
    let good = ImageView {
        format: PixelFormat::I420,
        width: 16,
        height: 16,
        planes: &planes,
        strides: &[16, 8, 8],
        color: ColorModel::BT601,
    };
    good.validate().unwrap();

    let error = message(ImageView { width: 15, ..good }.validate());
    assert!(error.contains("15x16") && error.contains("16..=16384"), "{error}");
    let error = message(
        ImageView {
            height: 20_000,
            ..good
        }
        .validate(),
    );
    assert!(error.contains("16x20000"), "{error}");
    let error = message(
        ImageView {
            planes: &planes[..2],
            ..good
        }
        .validate(),
    );
    assert!(
        error.contains("3 planes") && error.contains("got 2 planes and 3 strides"),
        "{error}"
    );
    let error = message(
        ImageView {
            strides: &[16, 8],
            ..good
        }
        .validate(),
    );
    assert!(error.contains("2 strides"), "{error}");
    let error = message(
        ImageView {
            strides: &[16, 7, 8],
            ..good
        }
        .validate(),
    );
    assert!(
        error.contains("plane 1") && error.contains("at least 8") && error.contains("got 7"),
        "{error}"
    );
    let error = message(
        ImageView {
            strides: &[usize::MAX, 8, 8],
            ..good
        }
        .validate(),
    );
    assert!(error.contains("plane 0"), "{error}");
    let color = ColorModel {
        kr: f32::NAN,
        ..ColorModel::BT601
    };
    let error = message(ImageView { color, ..good }.validate());
    assert!(error.contains("NaN"), "{error}");
}
