//! Masks: polygons that the detector ignores, its property `ignore-regions`.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{App, Refusal};
use crate::state::Camera;

const PROPERTY: &str = "ignore-regions";
const POLYGONS: usize = 64;
const CORNERS: std::ops::RangeInclusive<usize> = 3..=64;

/// Corners are fractions of the image's width and height.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Masks {
    polygons: Vec<Vec<[f64; 2]>>,
}

impl Masks {
    /// What the property says; nothing if it cannot be read.
    fn parse(text: &str) -> Self {
        let corner = |text: &str| {
            let (x, y) = text.split_once(',')?;
            Some([x.trim().parse().ok()?, y.trim().parse().ok()?])
        };
        let polygon = |text: &str| text.split_whitespace().map(corner).collect::<Option<Vec<_>>>();
        let texts = text.split(';').filter(|text| !text.trim().is_empty());
        Self {
            polygons: texts.map(polygon).collect::<Option<_>>().unwrap_or_default(),
        }
    }

    /// As the property reads it.
    fn text(&self) -> String {
        let polygon = |corners: &Vec<[f64; 2]>| {
            let corners: Vec<_> = corners.iter().map(|[x, y]| format!("{x},{y}")).collect();
            corners.join(" ")
        };
        let polygons: Vec<_> = self.polygons.iter().map(polygon).collect();
        polygons.join("; ")
    }

    fn check(&self) -> Result<(), Refusal> {
        let refused = |reason: String| Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
        if self.polygons.len() > POLYGONS {
            return refused(format!(
                "there may be 0 to {POLYGONS} polygons, got {}",
                self.polygons.len()
            ));
        }
        for corners in &self.polygons {
            if !CORNERS.contains(&corners.len()) {
                let (least, most) = (CORNERS.start(), CORNERS.end());
                return refused(format!(
                    "a polygon has {least} to {most} corners, got {}",
                    corners.len()
                ));
            }
            if let Some(outside) = corners
                .iter()
                .flatten()
                .find(|value| !(0.0..=1.0).contains(*value))
            {
                return refused(format!("corners are fractions from 0 to 1, got {outside}"));
            }
        }
        Ok(())
    }

    fn of(camera: &Camera) -> Self {
        let settings = camera.settings();
        let setting = settings.iter().find(|setting| setting.name == PROPERTY);
        setting
            .map(|setting| Self::parse(&setting.value))
            .unwrap_or_default()
    }
}

pub(super) async fn read(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Masks>, Refusal> {
    Ok(Json(Masks::of(app.camera(&id?)?)))
}

pub(super) async fn write(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    masks: Result<Json<Masks>, JsonRejection>,
) -> Result<Json<Masks>, Refusal> {
    let Path(id) = id?;
    app.camera(&id)?;
    let Json(masks) = masks?;
    masks.check()?;
    let text = masks.text();
    app.blocking(move |watch| Ok(watch.set_property(&id, PROPERTY, Some(&text))?))
        .await?;
    Ok(Json(masks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_read_back_as_they_were_written() {
        let masks = Masks {
            polygons: vec![
                vec![[0.0, 0.0], [1.0, 0.0], [0.1234, 0.5]],
                vec![[0.25, 0.5], [0.5, 0.5], [0.5, 1.0], [0.25, 1.0]],
            ],
        };
        assert_eq!(Masks::parse(&masks.text()), masks);
        assert_eq!(Masks::parse(""), Masks::default());
        assert_eq!(Masks::parse("0,0 1,x 1,1"), Masks::default());
    }

    #[test]
    fn masks_with_wrong_corners_are_refused() {
        let polygon = |corners: Vec<[f64; 2]>| Masks {
            polygons: vec![corners],
        };
        let right = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]];
        assert!(polygon(right.clone()).check().is_ok());
        for corners in [
            vec![],
            vec![[0.0, 0.0]; 2],
            vec![[0.0, 0.0]; 65],
            vec![[0.0, 0.0], [1.0, 0.0], [1.0, 1.1]],
            vec![[0.0, 0.0], [1.0, 0.0], [1.0, f64::NAN]],
        ] {
            assert!(polygon(corners.clone()).check().is_err(), "{corners:?}");
        }
        assert!(
            Masks {
                polygons: vec![right; 65]
            }
            .check()
            .is_err()
        );
    }
}
