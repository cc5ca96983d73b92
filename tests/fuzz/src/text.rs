//! Settings that are texts.

use gstvaeanomaly::detector::{Config, NetArch};

/// What can be read is written and read again as the same, and any width is accepted or refused.
pub fn net_arch(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(net_arch) = text.parse::<NetArch>() else {
        return;
    };
    assert_eq!(
        net_arch.to_string().parse::<NetArch>().as_ref().ok(),
        Some(&net_arch)
    );
    for model_width in [0, 16, 60, 64, 81, 256, usize::MAX] {
        let config = Config {
            net_arch: net_arch.clone(),
            model_width,
            ..Config::default()
        };
        if config.validate().is_ok() {
            assert_eq!(model_width % net_arch.reduction(), 0);
        }
    }
}
