//! The READMEs: the property table matches the element, and all relative links exist.

use std::collections::BTreeMap;
use std::path::Path;

use gst::prelude::*;

/// Name and default of every row of the table under "## Properties".
fn table() -> BTreeMap<String, String> {
    let readme = include_str!("../README.md");
    let section = readme
        .split("\n## Properties\n")
        .nth(1)
        .expect("a section on properties");
    let section = section.split("\n## ").next().unwrap_or(section);
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").expect("a name in backticks");
            let (default, _) = rest.split_once(" | ").expect("a default");
            (name.to_owned(), default.trim_matches('`').to_owned())
        })
        .collect()
}

/// A value as written in a gst-launch-1.0 line.
fn text(value: &gst::glib::Value) -> String {
    if let Some((_, value)) = gst::glib::EnumValue::from_value(value) {
        return value.nick().to_owned();
    }
    if let Some((_, values)) = gst::glib::FlagsValue::from_value(value) {
        let nicks: Vec<&str> = values.iter().rev().map(|v| v.nick()).collect();
        return nicks.join("+");
    }
    match (value.get::<f64>(), value.get::<String>()) {
        (Ok(number), _) => number.to_string(),
        (_, Ok(text)) => text,
        _ => value.serialize().expect("a default").to_string(),
    }
}

#[test]
fn every_property_is_in_the_readme_with_its_default() {
    gst::init().unwrap();
    gstvaeanomaly::plugin_register_static().unwrap();
    let element = gst::ElementFactory::make("vaeanomaly").build().unwrap();
    let own: BTreeMap<String, String> = element
        .list_properties()
        .iter()
        .filter(|p| p.owner_type() == element.type_())
        .map(|p| {
            let writable = p.flags().contains(gst::glib::ParamFlags::WRITABLE);
            let default = if writable {
                text(p.default_value())
            } else {
                "read only".to_owned()
            };
            (p.name().to_owned(), default)
        })
        .collect();
    assert_eq!(table(), own);
}

/// The targets of the Markdown links in `text` that are neither addresses nor anchors.
fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with('#'))
}

#[test]
fn relative_links_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for readme in [
        "README.md",
        "pipelines/README.md",
        "examples/bandwidth/README.md",
        "examples/evaluate/README.md",
        "src/detector/README.md",
        "src/detector/engine/cuda/README.md",
        "tests/bench/README.md",
    ] {
        let path = root.join(readme);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{readme}: {e}"));
        for link in relative_links(&text) {
            let target = path.with_file_name(link);
            assert!(target.exists(), "{readme} links to {link}");
            links += 1;
        }
    }
    assert!(links > 20, "only {links} links were found");
}
