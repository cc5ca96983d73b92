//! The fixed camera: a pinhole on a mast, looking down and along the street.
//!
//! World coordinates in metres: x along the street (right), y up, z across it (away from the camera).

/// Angle by which the view turns from straight across towards +x, in radians.
const YAW: f32 = 0.20;
/// Angle by which the view looks down, in radians.
const PITCH: f32 = 0.30;
/// Position of the camera: x along the street and height above the ground, in metres; z is 0.
const ALONG: f32 = 3.2;
const HEIGHT: f32 = 7.0;
/// Focal length as a share of the image width, or of 16/9 of the image height if that is larger.
const FOCAL: f32 = 0.9;

pub type Point3 = [f32; 3];

/// A point in the image with its distance along the optical axis.
#[derive(Clone, Copy, Debug)]
pub struct Projected {
    pub x: f32,
    pub y: f32,
    pub depth: f32,
}

/// An axis-parallel rectangle in the image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Rect {
    /// The smallest rectangle around `points`.
    pub fn around(points: impl IntoIterator<Item = (f32, f32)>) -> Self {
        let empty = Self {
            left: f32::MAX,
            top: f32::MAX,
            right: f32::MIN,
            bottom: f32::MIN,
        };
        points.into_iter().fold(empty, |r, (x, y)| Self {
            left: r.left.min(x),
            top: r.top.min(y),
            right: r.right.max(x),
            bottom: r.bottom.max(y),
        })
    }

    pub fn area(&self) -> f32 {
        (self.right - self.left).max(0.0) * (self.bottom - self.top).max(0.0)
    }

    pub fn clip(&self, width: f32, height: f32) -> Self {
        Self {
            left: self.left.clamp(0.0, width),
            top: self.top.clamp(0.0, height),
            right: self.right.clamp(0.0, width),
            bottom: self.bottom.clamp(0.0, height),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Camera {
    pub width: f32,
    pub height: f32,
    focal: f32,
    right: Point3,
    up: Point3,
    forward: Point3,
}

fn dot(a: Point3, b: Point3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

impl Camera {
    /// A camera with an image of `width` x `height` pixels.
    pub fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as f32, height as f32);
        let (sy, cy) = YAW.sin_cos();
        let (sp, cp) = PITCH.sin_cos();
        Self {
            width,
            height,
            focal: FOCAL * width.max(height * 16.0 / 9.0),
            right: [cy, 0.0, -sy],
            up: [sy * sp, cp, cy * sp],
            forward: [sy * cp, -sp, cy * cp],
        }
    }

    pub fn position(&self) -> Point3 {
        [ALONG, HEIGHT, 0.0]
    }

    /// Projects a point of the world into the image. Points behind the camera are moved just in front of it.
    pub fn project(&self, p: Point3) -> Projected {
        let d = [p[0] - ALONG, p[1] - HEIGHT, p[2]];
        let depth = dot(d, self.forward).max(0.5);
        Projected {
            x: self.width / 2.0 + self.focal * dot(d, self.right) / depth,
            y: self.height / 2.0 - self.focal * dot(d, self.up) / depth,
            depth,
        }
    }

    /// [`Camera::project`] without the distance.
    pub fn xy(&self, p: Point3) -> (f32, f32) {
        let q = self.project(p);
        (q.x, q.y)
    }

    /// Pixels per metre at this point.
    pub fn scale(&self, p: Point3) -> f32 {
        self.focal / self.project(p).depth
    }

    /// Direction (not normalised) of the ray through a pixel position.
    pub fn ray(&self, x: f32, y: f32) -> Point3 {
        let a = (x - self.width / 2.0) / self.focal;
        let b = (self.height / 2.0 - y) / self.focal;
        std::array::from_fn(|i| self.forward[i] + a * self.right[i] + b * self.up[i])
    }

    /// The visible range of x on the ground at `z`, with `margin` metres added at both ends.
    pub fn span(&self, z: f32, margin: f32) -> (f32, f32) {
        let mut visible = (f32::MAX, f32::MIN);
        for step in -400..=1200 {
            let x = step as f32 * 0.1;
            let foot = self.project([x, 0.0, z]);
            let head = self.project([x, 1.8, z]);
            let inside = (0.0..self.width).contains(&foot.x) && foot.depth > 1.0;
            if inside && head.y < self.height && foot.y > 0.0 {
                visible = (visible.0.min(x), visible.1.max(x));
            }
        }
        (visible.0 - margin, visible.1 + margin)
    }

    /// The bounding box in the image of an upright box of the world: centre x, z, full width along x, height.
    pub fn bounds(&self, centre: Point3, width: f32, height: f32, depth: f32) -> Rect {
        let (w, d) = (width / 2.0, depth / 2.0);
        let corners = [-w, w].into_iter().flat_map(|dx| {
            [-d, d]
                .into_iter()
                .flat_map(move |dz| [0.0, height].into_iter().map(move |dy| (dx, dy, dz)))
        });
        Rect::around(corners.map(|(dx, dy, dz)| self.xy([centre[0] + dx, centre[1] + dy, centre[2] + dz])))
    }

    /// The share of a rectangle that is inside the image, 0..1.
    pub fn share_in_view(&self, rect: &Rect) -> f32 {
        rect.clip(self.width, self.height).area() / rect.area().max(1e-6)
    }
}
