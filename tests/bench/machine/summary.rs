//! The printed table and `summary.json`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

/// All results of a run.
#[derive(Default)]
pub struct Summary {
    rows: Vec<(String, String)>,
    fields: Map<String, Value>,
}

impl Summary {
    /// A heading in the table.
    pub fn heading(&mut self, title: &str) {
        self.rows.push((title.to_owned(), String::new()));
    }

    /// A row of the table.
    pub fn row(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.rows.push((name.into(), value.into()));
    }

    /// A field of `summary.json`; `None` if it could not be measured.
    pub fn field(&mut self, name: &str, value: Option<f64>) {
        let rounded = value.map(|v| (v * 1000.0).round() / 1000.0);
        self.fields.insert(name.to_owned(), json!(rounded));
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.rows {
            let line = match value.is_empty() {
                true => writeln!(text, "\n{name}\n{}", "-".repeat(name.len())),
                false => writeln!(text, "{name:58} {value:>18}"),
            };
            line.expect("writing to a String cannot fail");
        }
        text
    }

    /// Writes `target/bench/summary.json`.
    pub fn write(&self) -> std::io::Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target")),
            PathBuf::from,
        );
        let folder = target.join("bench");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join("summary.json");
        std::fs::write(&file, serde_json::to_string_pretty(&self.fields)? + "\n")?;
        Ok(file)
    }
}
