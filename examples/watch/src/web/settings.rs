//! Settings: the properties of a camera's elements that change while it plays.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use gst::glib;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{App, Refusal};
use crate::properties::Property;
use crate::state::{Camera, CommandError};

/// Settings in one request, at most.
const LIMIT: usize = 64;

/// A property as a form field.
#[derive(Debug, Serialize)]
struct Field {
    name: String,
    nick: String,
    blurb: String,
    #[serde(flatten)]
    kind: Kind,
    value: Value,
    /// The configuration's value.
    default: Value,
}

/// The type of a value, with its range.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Kind {
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    Double {
        min: f64,
        max: f64,
    },
    /// In nanoseconds.
    Time {
        min: u64,
        max: u64,
    },
    Enum {
        choices: Vec<Choice>,
    },
    /// Any of the choices, joined by `+`.
    Flags {
        choices: Vec<Choice>,
    },
}

#[derive(Debug, PartialEq, Serialize)]
struct Choice {
    value: String,
    name: String,
}

impl Kind {
    /// `None` for what the page does not change: texts, which are file names and masks.
    fn of(spec: &glib::ParamSpec) -> Option<Self> {
        if spec.downcast_ref::<glib::ParamSpecBoolean>().is_some() {
            return Some(Self::Boolean);
        }
        if let Some(spec) = spec.downcast_ref::<glib::ParamSpecDouble>() {
            let (min, max) = (spec.minimum(), spec.maximum());
            return Some(Self::Double { min, max });
        }
        if let Some(spec) = spec.downcast_ref::<glib::ParamSpecUInt>() {
            let (min, max) = (spec.minimum().into(), spec.maximum().into());
            return Some(Self::Integer { min, max });
        }
        if let Some(number) = spec.downcast_ref::<glib::ParamSpecUInt64>() {
            let (min, max) = (number.minimum(), number.maximum());
            let is_time = spec.blurb().is_some_and(|blurb| blurb.contains("in ns"));
            return Some(match is_time {
                true => Self::Time { min, max },
                false => Self::Integer { min, max },
            });
        }
        let choice = |value: &str, name: &str| Choice {
            value: value.to_owned(),
            name: name.to_owned(),
        };
        if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
            let choices = class
                .values()
                .iter()
                .map(|value| choice(value.nick(), value.name()));
            return Some(Self::Enum {
                choices: choices.collect(),
            });
        }
        if let Some(class) = glib::FlagsClass::with_type(spec.value_type()) {
            let choices = class
                .values()
                .iter()
                .map(|value| choice(value.nick(), value.name()));
            return Some(Self::Flags {
                choices: choices.collect(),
            });
        }
        None
    }

    /// A value's text as JSON.
    fn value(&self, property: &Property, text: &str) -> Value {
        let parsed = property.parse(text).ok();
        let number = parsed.as_ref().and_then(|value| match self {
            Self::Boolean => value.get::<bool>().ok().map(Value::from),
            Self::Double { .. } => value.get::<f64>().ok().map(Value::from),
            Self::Integer { .. } | Self::Time { .. } => {
                let number = value.get::<u64>().ok();
                number
                    .or_else(|| value.get::<u32>().ok().map(u64::from))
                    .map(Value::from)
            }
            Self::Enum { .. } | Self::Flags { .. } => None,
        });
        number.unwrap_or_else(|| Value::from(text))
    }
}

fn fields(camera: &Camera) -> Value {
    let fields: Vec<_> = camera
        .settings()
        .into_iter()
        .filter(|setting| setting.immediate)
        .filter_map(|setting| {
            let property = Property::find(&setting.name)?;
            let kind = Kind::of(&property.spec)?;
            Some(Field {
                value: kind.value(&property, &setting.value),
                default: kind.value(&property, &setting.default),
                nick: property.spec.nick().to_owned(),
                blurb: setting.description,
                name: setting.name,
                kind,
            })
        })
        .collect();
    json!({ "settings": fields })
}

pub(super) async fn read(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path(id) = id?;
    app.camera(&id)?;
    app.blocking(move |watch| {
        let camera = watch.camera(&id).ok_or(CommandError::NoCamera(id))?;
        Ok(Json(fields(camera)))
    })
    .await
}

/// Sets the properties of an object, `null` for the configuration's value.
pub(super) async fn write(
    State(app): State<App>,
    id: Result<Path<String>, PathRejection>,
    values: Result<Json<Map<String, Value>>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Path(id) = id?;
    app.camera(&id)?;
    let Json(values) = values?;
    if values.len() > LIMIT {
        let reason = format!("there may be 0 to {LIMIT} settings, got {}", values.len());
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, reason));
    }
    app.blocking(move |watch| {
        let camera = watch
            .camera(&id)
            .ok_or_else(|| CommandError::NoCamera(id.clone()))?;
        // All are checked before the first is set.
        let mut changes = Vec::with_capacity(values.len());
        for (name, value) in &values {
            changes.push((name, text(name, value)?));
        }
        for (name, value) in changes {
            watch.set_property(camera.id(), name, value.as_deref())?;
        }
        Ok(Json(fields(camera)))
    })
    .await
}

/// The text of a value that the page may set.
fn text(name: &str, value: &Value) -> Result<Option<String>, CommandError> {
    let property =
        Property::find(name).filter(|property| property.is_mutable() && Kind::of(&property.spec).is_some());
    let property = property.ok_or_else(|| CommandError::NoProperty(name.to_owned()))?;
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(_) | Value::Object(_) => {
            let range = property.range();
            return Err(CommandError::Value(format!(
                "{name} must be {range}, got {value}"
            )));
        }
    };
    property.parse(&text).map_err(CommandError::Value)?;
    Ok(Some(text))
}
