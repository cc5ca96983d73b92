//! Values of element properties as text, checked against their specifications.

use gst::glib;
use gst::prelude::*;

/// Elements of a camera's pipeline whose properties can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Element {
    /// `vaeanomaly`; its properties are written without a prefix.
    Detector,
    /// `vaeanomalygate`, prefix `gate.`
    Gate,
    /// `vaeanomalyoverlay`, prefix `overlay.`
    Overlay,
}

impl Element {
    /// The factory's name.
    pub fn factory(self) -> &'static str {
        match self {
            Element::Detector => "vaeanomaly",
            Element::Gate => "vaeanomalygate",
            Element::Overlay => "vaeanomalyoverlay",
        }
    }

    /// Properties that the program sets itself.
    fn is_reserved(self, name: &str) -> bool {
        match self {
            Element::Detector => matches!(name, "drop-normal" | "post-messages"),
            Element::Gate => name == "follow",
            Element::Overlay => false,
        }
    }

    /// The specifications of what can be set, in the order of the documentation.
    pub fn specifications(self) -> Vec<glib::ParamSpec> {
        let Ok(element) = gst::ElementFactory::make(self.factory()).build() else {
            return Vec::new();
        };
        let own = element.type_();
        element
            .list_properties()
            .iter()
            .filter(|spec| spec.owner_type() == own && spec.flags().contains(glib::ParamFlags::WRITABLE))
            .filter(|spec| !self.is_reserved(spec.name()))
            .cloned()
            .collect()
    }
}

/// A property of one of the elements, such as `threshold` or `gate.pre-roll`.
#[derive(Clone, Debug)]
pub struct Property {
    pub element: Element,
    pub spec: glib::ParamSpec,
}

impl Property {
    /// Finds a property by its name with prefix. Underscores count as hyphens.
    pub fn find(name: &str) -> Option<Self> {
        let name = name.replace('_', "-");
        let (element, name) = match name.split_once('.') {
            Some(("gate", name)) => (Element::Gate, name),
            Some(("overlay", name)) => (Element::Overlay, name),
            Some(_) => return None,
            None => (Element::Detector, name.as_str()),
        };
        let spec = element
            .specifications()
            .into_iter()
            .find(|spec| spec.name() == name)?;
        Some(Property { element, spec })
    }

    /// All properties.
    pub fn all() -> Vec<Self> {
        [Element::Detector, Element::Gate, Element::Overlay]
            .into_iter()
            .flat_map(|element| {
                element
                    .specifications()
                    .into_iter()
                    .map(move |spec| Property { element, spec })
            })
            .collect()
    }

    /// The name with prefix.
    pub fn name(&self) -> String {
        match self.element {
            Element::Detector => self.spec.name().to_owned(),
            Element::Gate => format!("gate.{}", self.spec.name()),
            Element::Overlay => format!("overlay.{}", self.spec.name()),
        }
    }

    /// Whether it can be changed while the camera plays.
    pub fn is_mutable(&self) -> bool {
        self.spec.flags().contains(gst::PARAM_FLAG_MUTABLE_PLAYING) || self.element == Element::Overlay
    }

    /// The allowed values in words, such as `0 to 20` or `one of none, events, all`.
    pub fn range(&self) -> String {
        range(&self.spec)
    }

    /// The default as text.
    pub fn default(&self) -> String {
        text(self.spec.default_value())
    }

    /// Reads a value.
    ///
    /// # Errors
    /// A sentence with the name, the allowed range and the value.
    pub fn parse(&self, value: &str) -> Result<glib::Value, String> {
        parse(&self.spec, value)
            .ok_or_else(|| format!("{} must be {}, got {value}", self.name(), self.range()))
    }
}

/// A value of a property as the text that sets it.
pub fn text(value: &glib::Value) -> String {
    if let Ok(text) = value.get::<Option<String>>() {
        return text.unwrap_or_default();
    }
    value.serialize().map(|text| text.to_string()).unwrap_or_default()
}

/// Parses a number if the specification is of one of these types, and checks its range.
macro_rules! numbers {
    ($spec:expr, $value:expr, $(($spec_type:ty, $type:ty)),*) => {
        $(if let Some(spec) = $spec.downcast_ref::<$spec_type>() {
            let number = $value.parse::<$type>().ok()?;
            return (spec.minimum()..=spec.maximum()).contains(&number).then(|| number.to_value());
        })*
    };
}

macro_rules! ranges {
    ($spec:expr, $($spec_type:ty),*) => {
        $(if let Some(spec) = $spec.downcast_ref::<$spec_type>() {
            return format!("{} to {}", spec.minimum(), spec.maximum());
        })*
    };
}

/// Nanoseconds written as seconds or milliseconds: `2s`, `500ms`.
fn nanoseconds(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e6),
        None => (text.strip_suffix('s')?, 1e9),
    };
    let ns = number.trim().parse::<f64>().ok()? * unit;
    (0.0..1e19).contains(&ns).then_some(ns.round() as u64)
}

fn parse(spec: &glib::ParamSpec, value: &str) -> Option<glib::Value> {
    if spec.downcast_ref::<glib::ParamSpecBoolean>().is_some() {
        return switch(value).map(|on| on.to_value());
    }
    if spec.downcast_ref::<glib::ParamSpecString>().is_some() {
        return Some(value.to_value());
    }
    if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
        return class.to_value_by_nick(value);
    }
    if spec.downcast_ref::<glib::ParamSpecFlags>().is_some() {
        return glib::Value::deserialize(value, spec.value_type()).ok();
    }
    if let (Some(spec), Some(ns)) = (spec.downcast_ref::<glib::ParamSpecUInt64>(), nanoseconds(value)) {
        return (spec.minimum()..=spec.maximum())
            .contains(&ns)
            .then(|| ns.to_value());
    }
    numbers!(
        spec,
        value,
        (glib::ParamSpecUInt64, u64),
        (glib::ParamSpecInt64, i64),
        (glib::ParamSpecUInt, u32),
        (glib::ParamSpecInt, i32),
        (glib::ParamSpecDouble, f64),
        (glib::ParamSpecFloat, f32)
    );
    None
}

/// A boolean as people write it.
pub fn switch(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn range(spec: &glib::ParamSpec) -> String {
    if spec.downcast_ref::<glib::ParamSpecBoolean>().is_some() {
        return "true or false".to_owned();
    }
    if let Some(class) = glib::EnumClass::with_type(spec.value_type()) {
        let nicks: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
        return format!("one of {}", nicks.join(", "));
    }
    if let Some(class) = glib::FlagsClass::with_type(spec.value_type()) {
        let nicks: Vec<_> = class.values().iter().map(|value| value.nick()).collect();
        return format!("of {}, joined by +", nicks.join(", "));
    }
    ranges!(
        spec,
        glib::ParamSpecUInt64,
        glib::ParamSpecInt64,
        glib::ParamSpecUInt,
        glib::ParamSpecInt,
        glib::ParamSpecDouble,
        glib::ParamSpecFloat
    );
    "a text".to_owned()
}
