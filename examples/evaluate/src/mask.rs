//! Parts of the frames that are ignored: by the element through its properties, by ablations and baselines through this.

use anyhow::{Context, Result};
use gstvaeanomaly::detector::IgnoredRegions;

use crate::args::{Args, Setting};
use crate::baseline::Grey;

/// Grey level of what is ignored.
const BLANK: f32 = 128.0;

/// What `--mask` and `--ignore-regions` ignore.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    regions: IgnoredRegions,
    settings: Vec<Setting>,
    /// Width, height and the indices of the ignored pixels of the last frame.
    pixels: (usize, usize, Vec<usize>),
}

impl Mask {
    /// Reads both options.
    ///
    /// # Errors
    /// The image cannot be read, or the polygons are none.
    pub fn new(args: &Args) -> Result<Self> {
        let mut mask = Self::default();
        let mut setting = |name: &str, value: String| {
            mask.settings.push(Setting {
                name: name.to_owned(),
                value,
            });
        };
        if let Some(path) = &args.mask {
            mask.regions =
                IgnoredRegions::from_file(path).with_context(|| format!("--mask {}", path.display()))?;
            setting("mask-location", path.display().to_string());
        }
        if let Some(text) = &args.ignore_regions {
            let polygons =
                IgnoredRegions::from_polygons(text).with_context(|| format!("--ignore-regions '{text}'"))?;
            mask.regions = std::mem::take(&mut mask.regions).and(polygons);
            setting("ignore-regions", text.clone());
        }
        Ok(mask)
    }

    /// For the detector core.
    pub fn regions(&self) -> &IgnoredRegions {
        &self.regions
    }

    /// For the element.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Whether nothing is ignored.
    pub fn is_empty(&self) -> bool {
        self.regions == IgnoredRegions::none()
    }

    /// Share of the frame that is ignored.
    pub fn share(&self) -> f64 {
        const SIDE: usize = 500;
        let pixels = self.regions.pixels((SIDE, SIDE));
        pixels.iter().filter(|&&ignored| ignored).count() as f64 / pixels.len() as f64
    }

    /// Sets what is ignored to mid-grey.
    pub fn blank(&mut self, mut grey: Grey) -> Grey {
        if self.is_empty() {
            return grey;
        }
        let size = (grey.width, grey.height);
        if (self.pixels.0, self.pixels.1) != size {
            let ignored = self.regions.pixels(size);
            let indices = (0..ignored.len()).filter(|&i| ignored[i]);
            self.pixels = (size.0, size.1, indices.collect());
        }
        for &pixel in &self.pixels.2 {
            grey.pixels[pixel] = BLANK;
        }
        grey
    }

    /// Rows and columns of the cells of a grid that show something ignored.
    pub fn cells(&self, columns: usize, rows: usize) -> Vec<(usize, usize)> {
        let ignored = self.regions.pixels((columns, rows));
        let indices = (0..ignored.len()).filter(|&i| ignored[i]);
        indices.map(|i| (i / columns, i % columns)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn mask(options: &[&str]) -> Result<Mask> {
        let arguments = ["evaluate", "--clips", "x"];
        Mask::new(&Args::try_parse_from(arguments.iter().chain(options)).unwrap())
    }

    #[test]
    fn image_and_polygons_are_both_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("left-half.pgm");
        std::fs::write(&path, "P2 2 1 1 0 1").unwrap();
        let path = path.to_str().unwrap();
        let upper = "0,0 1,0 1,0.5 0,0.5";
        let mut both = mask(&["--mask", path, "--ignore-regions", upper]).unwrap();
        assert!((both.share() - 0.75).abs() < 0.01, "{}", both.share());
        let names: Vec<&str> = both.settings().iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["mask-location", "ignore-regions"]);
        let grey = Grey {
            width: 2,
            height: 2,
            pixels: vec![1.0, 2.0, 3.0, 4.0],
        };
        assert_eq!(both.blank(grey).pixels, [BLANK, BLANK, BLANK, 4.0]);
        assert_eq!(both.cells(2, 2), [(0, 0), (0, 1), (1, 0)]);

        let mut none = mask(&[]).unwrap();
        assert!(none.is_empty() && none.share() == 0.0 && none.settings().is_empty());
        let grey = Grey {
            width: 1,
            height: 1,
            pixels: vec![7.0],
        };
        assert_eq!(none.blank(grey.clone()), grey);
    }

    #[test]
    fn mistakes_name_the_option() {
        let error = |options: &[&str]| format!("{:#}", mask(options).unwrap_err());
        assert!(error(&["--mask", "/no/such/mask.png"]).contains("--mask /no/such/mask.png"));
        assert!(
            error(&["--ignore-regions", "0,0 1"])
                .starts_with("--ignore-regions '0,0 1': ignore-regions must be")
        );
    }
}
