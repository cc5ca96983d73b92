//! Small charts as self-contained SVG: lines, shaded spans, histogram bars, thresholds, points.
//!
//! ```
//! let scores = [(0.0, 0.1), (60.0, 0.2), (64.0, 0.9), (70.0, 0.2)];
//! let svg = chart::Chart::new("Score over time", 900, 300)
//!     .time_axis("stream time", 0.0, 120.0)
//!     .y_axis("score", 0.0, 1.0)
//!     .band("cyclist", 62.0, 66.5, "#f2b5b5")
//!     .line("score", scores.iter().copied(), "#1f5fa8")
//!     .threshold("threshold", 0.5, "#c0392b")
//!     .svg();
//! assert!(svg.starts_with("<svg"));
//! ```

use std::fmt::Write as _;

const MARGIN_LEFT: f64 = 58.0;
const MARGIN_RIGHT: f64 = 16.0;
const MARGIN_TOP: f64 = 56.0;
const MARGIN_BOTTOM: f64 = 46.0;
/// Available on Debian with `fonts-dejavu-core`; browsers use the first that they have.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// Format of the tick labels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ticks {
    Number,
    /// Seconds as `m:ss` or `h:mm:ss`.
    Time,
}

#[derive(Clone, Debug)]
struct Axis {
    label: String,
    min: f64,
    max: f64,
    ticks: Ticks,
}

impl Axis {
    fn new(label: &str, min: f64, max: f64, ticks: Ticks) -> Self {
        let max = if max > min { max } else { min + 1.0 };
        Self {
            label: label.to_owned(),
            min,
            max,
            ticks,
        }
    }

    /// A round step with at most `intervals` intervals.
    fn step(&self, intervals: usize) -> f64 {
        let raw = (self.max - self.min) / intervals.max(1) as f64;
        if self.ticks == Ticks::Time {
            const STEPS: [f64; 14] = [
                1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
            ];
            if raw <= STEPS[STEPS.len() - 1] {
                return STEPS.into_iter().find(|step| *step >= raw).unwrap_or(1.0);
            }
        }
        let power = 10f64.powf(raw.log10().floor());
        [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|s| *s >= raw * 0.999)
            .unwrap_or(power)
    }

    fn positions(&self, intervals: usize) -> Vec<f64> {
        let step = self.step(intervals);
        let first = (self.min / step - 1e-9).ceil() as i64;
        let last = (self.max / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }

    fn text(&self, value: f64, step: f64) -> String {
        if self.ticks == Ticks::Time {
            let s = value.round() as i64;
            let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
            return if self.max >= 3600.0 {
                format!("{h}:{m:02}:{s:02}")
            } else {
                format!("{m}:{s:02}")
            };
        }
        let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        let digits = if (step * 10f64.powi(digits as i32)).fract() > 1e-6 {
            digits + 1
        } else {
            digits
        };
        format!("{value:.digits$}")
    }
}

#[derive(Clone, Debug)]
enum Item {
    Band { from: f64, to: f64 },
    Bars(Vec<(f64, f64, f64)>),
    Line(Vec<(f64, f64)>),
    Threshold(f64),
    Point { x: f64, y: f64 },
}

#[derive(Clone, Debug)]
struct Series {
    label: String,
    color: String,
    item: Item,
}

/// A builder of a chart; [`Chart::svg`] draws it.
///
/// Items are drawn in layers (bands, bars, lines, thresholds, points), independent of the order of the calls. Items with
/// an empty label are not in the legend; equal labels share one entry.
#[derive(Clone, Debug)]
pub struct Chart {
    title: String,
    width: f64,
    height: f64,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

impl Chart {
    /// An empty chart of `width` x `height` pixels with both axes 0..1.
    pub fn new(title: &str, width: u32, height: u32) -> Self {
        Self {
            title: title.to_owned(),
            width: f64::from(width.max(160)),
            height: f64::from(height.max(120)),
            x: Axis::new("", 0.0, 1.0, Ticks::Number),
            y: Axis::new("", 0.0, 1.0, Ticks::Number),
            series: Vec::new(),
        }
    }

    /// The horizontal axis with plain numbers.
    pub fn x_axis(mut self, label: &str, min: f64, max: f64) -> Self {
        self.x = Axis::new(label, min, max, Ticks::Number);
        self
    }

    /// The horizontal axis in seconds, labelled as `m:ss`.
    pub fn time_axis(mut self, label: &str, min: f64, max: f64) -> Self {
        self.x = Axis::new(label, min, max, Ticks::Time);
        self
    }

    /// The vertical axis. Values outside are clipped to the plot.
    pub fn y_axis(mut self, label: &str, min: f64, max: f64) -> Self {
        self.y = Axis::new(label, min, max, Ticks::Number);
        self
    }

    /// A shaded span over the full height: ground truth, an event, a life-cycle state.
    pub fn band(self, label: &str, from: f64, to: f64, color: &str) -> Self {
        self.with(label, color, Item::Band { from, to })
    }

    /// A polyline. Non-finite points interrupt it; points closer than a pixel are merged.
    pub fn line(self, label: &str, points: impl IntoIterator<Item = (f64, f64)>, color: &str) -> Self {
        self.with(label, color, Item::Line(points.into_iter().collect()))
    }

    /// Bars of a histogram: `(from, to, height)` each.
    pub fn bars(self, label: &str, bars: impl IntoIterator<Item = (f64, f64, f64)>, color: &str) -> Self {
        self.with(label, color, Item::Bars(bars.into_iter().collect()))
    }

    /// A dashed horizontal line.
    pub fn threshold(self, label: &str, y: f64, color: &str) -> Self {
        self.with(label, color, Item::Threshold(y))
    }

    /// A single dot, for example the operating point on a ROC curve.
    pub fn point(self, label: &str, x: f64, y: f64, color: &str) -> Self {
        self.with(label, color, Item::Point { x, y })
    }

    fn with(mut self, label: &str, color: &str, item: Item) -> Self {
        self.series.push(Series {
            label: label.to_owned(),
            color: escape(color),
            item,
        });
        self
    }

    /// Draws the chart as one `<svg>` element, for a file of its own or inline in HTML.
    pub fn svg(&self) -> String {
        self.scaled_svg(1.0)
    }

    /// [`Chart::svg`] at `scale` times its size, lines and text included.
    pub fn scaled_svg(&self, scale: f64) -> String {
        let (w, h) = (self.width, self.height);
        let (outer_w, outer_h) = (w * scale, h * scale);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{outer_w}\" height=\"{outer_h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"{FONT}\" font-size=\"12\">\n<rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n\
             <text x=\"{MARGIN_LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\" fill=\"#222\">{}</text>\n",
            escape(&self.title)
        );
        self.draw_layer(&mut svg, |item| matches!(item, Item::Band { .. }));
        self.draw_axes(&mut svg);
        self.draw_layer(&mut svg, |item| matches!(item, Item::Bars(_)));
        self.draw_layer(&mut svg, |item| matches!(item, Item::Line(_)));
        self.draw_layer(&mut svg, |item| matches!(item, Item::Threshold(_)));
        self.draw_layer(&mut svg, |item| matches!(item, Item::Point { .. }));
        self.draw_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn px(&self, x: f64) -> f64 {
        let share = ((x - self.x.min) / (self.x.max - self.x.min)).clamp(0.0, 1.0);
        MARGIN_LEFT + share * (self.width - MARGIN_LEFT - MARGIN_RIGHT)
    }

    fn py(&self, y: f64) -> f64 {
        let share = ((y - self.y.min) / (self.y.max - self.y.min)).clamp(0.0, 1.0);
        self.height - MARGIN_BOTTOM - share * (self.height - MARGIN_TOP - MARGIN_BOTTOM)
    }

    fn draw_axes(&self, svg: &mut String) {
        let (left, right) = (MARGIN_LEFT, self.width - MARGIN_RIGHT);
        let (top, bottom) = (MARGIN_TOP, self.height - MARGIN_BOTTOM);
        let intervals_x = ((right - left) / 80.0) as usize;
        let step = self.x.step(intervals_x);
        for value in self.x.positions(intervals_x) {
            let x = self.px(value);
            let text = self.x.text(value, step);
            let _ = writeln!(
                svg,
                "<path d=\"M{x:.1} {bottom:.1}v5\" stroke=\"#555\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\" fill=\"#444\">{text}</text>",
                bottom + 19.0
            );
        }
        let intervals_y = ((bottom - top) / 36.0) as usize;
        let step = self.y.step(intervals_y);
        for value in self.y.positions(intervals_y) {
            let y = self.py(value);
            let text = self.y.text(value, step);
            let _ = writeln!(
                svg,
                "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#000\" stroke-opacity=\"0.10\"/><text x=\"{:.1}\" \
                 y=\"{:.1}\" text-anchor=\"end\" fill=\"#444\">{text}</text>",
                left - 7.0,
                y + 4.0
            );
        }
        let _ = writeln!(
            svg,
            "<path d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\" fill=\"none\" stroke=\"#555\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#222\">{}</text>\
             <text transform=\"translate(15 {:.1}) rotate(-90)\" text-anchor=\"middle\" fill=\"#222\">{}</text>",
            (left + right) / 2.0,
            self.height - 9.0,
            escape(&self.x.label),
            (top + bottom) / 2.0,
            escape(&self.y.label)
        );
    }

    fn draw_layer(&self, svg: &mut String, selected: impl Fn(&Item) -> bool) {
        for series in self.series.iter().filter(|s| selected(&s.item)) {
            self.draw_series(svg, series);
        }
    }

    fn draw_series(&self, svg: &mut String, series: &Series) {
        let color = &series.color;
        let (top, bottom) = (MARGIN_TOP, self.height - MARGIN_BOTTOM);
        let _ = match &series.item {
            Item::Band { from, to } => {
                let (a, b) = (self.px(*from), self.px(*to));
                let (width, height) = ((b - a).max(0.75), bottom - top);
                writeln!(
                    svg,
                    "<rect x=\"{a:.2}\" y=\"{top:.1}\" width=\"{width:.2}\" height=\"{height:.1}\" fill=\"{color}\"/>"
                )
            }
            Item::Bars(bars) => {
                for &(from, to, value) in bars {
                    let (a, b, y) = (self.px(from), self.px(to), self.py(value));
                    let _ = writeln!(
                        svg,
                        "<rect x=\"{a:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{color}\" \
                         fill-opacity=\"0.55\"/>",
                        (b - a).max(0.5),
                        (bottom - y).max(0.0)
                    );
                }
                Ok(())
            }
            Item::Line(points) => writeln!(
                svg,
                "<path d=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.4\" stroke-linejoin=\"round\"/>",
                self.path(points)
            ),
            Item::Threshold(y) => writeln!(
                svg,
                "<path d=\"M{MARGIN_LEFT:.1} {:.2}H{:.1}\" stroke=\"{color}\" stroke-width=\"1.4\" \
                 stroke-dasharray=\"6 4\"/>",
                self.py(*y),
                self.width - MARGIN_RIGHT
            ),
            Item::Point { x, y } => writeln!(
                svg,
                "<circle cx=\"{:.2}\" cy=\"{:.2}\" r=\"4.5\" fill=\"{color}\" stroke=\"#fff\" stroke-width=\"1.5\"/>",
                self.px(*x),
                self.py(*y)
            ),
        };
    }

    /// Path data; of the points in one half-pixel column, the first, lowest, highest and last are kept.
    fn path(&self, points: &[(f64, f64)]) -> String {
        let mut data = String::new();
        let mut pen_down = false;
        let mut start = 0;
        while start < points.len() {
            let (x, y) = points[start];
            if !x.is_finite() || !y.is_finite() {
                pen_down = false;
                start += 1;
                continue;
            }
            let column = (self.px(x) * 2.0).floor();
            let same =
                |p: &(f64, f64)| p.0.is_finite() && p.1.is_finite() && (self.px(p.0) * 2.0).floor() == column;
            let end = start + points[start..].iter().take_while(|p| same(p)).count();
            for i in thin(&points[start..end]) {
                let (x, y) = points[start + i];
                let command = if pen_down { 'L' } else { 'M' };
                let _ = write!(data, "{command}{:.1} {:.1}", self.px(x), self.py(y));
                pen_down = true;
            }
            start = end;
        }
        data
    }

    fn draw_legend(&self, svg: &mut String) {
        let mut seen: Vec<&str> = Vec::new();
        let mut x = MARGIN_LEFT;
        for series in &self.series {
            if series.label.is_empty() || seen.contains(&series.label.as_str()) {
                continue;
            }
            seen.push(&series.label);
            let color = &series.color;
            let symbol = match series.item {
                Item::Band { .. } | Item::Bars(_) => {
                    format!("<rect x=\"{x:.1}\" y=\"34\" width=\"18\" height=\"11\" fill=\"{color}\"/>")
                }
                Item::Line(_) => {
                    format!("<path d=\"M{x:.1} 39.5h18\" stroke=\"{color}\" stroke-width=\"2\"/>")
                }
                Item::Threshold(_) => {
                    format!(
                        "<path d=\"M{x:.1} 39.5h18\" stroke=\"{color}\" stroke-width=\"2\" stroke-dasharray=\"5 3\"/>"
                    )
                }
                Item::Point { .. } => format!(
                    "<circle cx=\"{:.1}\" cy=\"39.5\" r=\"4.5\" fill=\"{color}\"/>",
                    x + 9.0
                ),
            };
            let label = escape(&series.label);
            let _ = writeln!(
                svg,
                "{symbol}<text x=\"{:.1}\" y=\"44\" fill=\"#333\">{label}</text>",
                x + 23.0
            );
            x += 23.0 + 7.2 * series.label.chars().count() as f64 + 18.0;
        }
    }
}

/// Indices of the first, lowest, highest and last point, in order.
fn thin(points: &[(f64, f64)]) -> Vec<usize> {
    if points.len() <= 4 {
        return (0..points.len()).collect();
    }
    let by_value = |a: &usize, b: &usize| points[*a].1.total_cmp(&points[*b].1);
    let lowest = (0..points.len()).min_by(by_value).unwrap_or(0);
    let highest = (0..points.len()).max_by(by_value).unwrap_or(0);
    let mut keep = vec![0, lowest, highest, points.len() - 1];
    keep.sort_unstable();
    keep.dedup();
    keep
}

/// Escapes text for an XML text node or attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
