//! SVG to PNG with resvg and the system's fonts (Debian: `fonts-dejavu-core`).

use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    FONTS
        .get_or_init(|| {
            let mut fonts = fontdb::Database::new();
            fonts.load_system_fonts();
            Arc::new(fonts)
        })
        .clone()
}

/// Draws `svg` at its own size, `zoom` times enlarged (1.0 = one pixel a unit).
pub fn render(svg: &str, zoom: f32) -> Result<Pixmap> {
    let options = Options {
        fontdb: fonts(),
        font_family: "DejaVu Sans".into(),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).context("the SVG cannot be read")?;
    let size = tree
        .size()
        .to_int_size()
        .scale_by(zoom)
        .context("the SVG's size is empty")?;
    let mut pixmap = Pixmap::new(size.width(), size.height()).context("the picture is too large")?;
    resvg::render(&tree, Transform::from_scale(zoom, zoom), &mut pixmap.as_mut());
    Ok(pixmap)
}

/// Draws `svg` and writes it as a PNG file.
pub fn write_png(svg: &str, zoom: f32, path: &Path) -> Result<()> {
    let pixmap = render(svg, zoom)?;
    pixmap
        .save_png(path)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Draws `svg` over what is already in `pixmap`, one pixel a unit.
pub fn draw_over(svg: &str, pixmap: &mut Pixmap) -> Result<()> {
    let options = Options {
        fontdb: fonts(),
        font_family: "DejaVu Sans".into(),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).context("the SVG cannot be read")?;
    resvg::render(&tree, Transform::identity(), &mut pixmap.as_mut());
    Ok(())
}
