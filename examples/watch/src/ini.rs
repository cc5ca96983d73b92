//! The text of an INI file: sections, keys and values with the lines that they are on.
//!
//! The dialect is that of Python's `configparser`: `key = value` or `key: value`, comments in lines of their own or after
//! ` #` and ` ;`, and values that continue in indented lines.

/// A position in a file, for messages.
pub type Line = usize;

/// A `key = value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: String,
    pub line: Line,
}

/// A `[section]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub name: String,
    pub line: Line,
    pub entries: Vec<Entry>,
}

impl Section {
    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

/// Splits a text into sections, in their order.
///
/// # Errors
/// The line and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Section>, (Line, String)> {
    let mut sections: Vec<Section> = Vec::new();
    // Whether an indented line continues the last value.
    let mut continues = false;
    for (line, raw) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let content = without_comment(raw);
        if content.is_empty() {
            // A comment may stand between the lines of a value, an empty line ends it.
            continues &= !raw.trim().is_empty();
            continue;
        }
        if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
            && !(continues && raw.starts_with([' ', '\t']))
        {
            let name = name.trim();
            if name.is_empty() {
                return Err((line, "a section needs a name".to_owned()));
            }
            if let Some(first) = sections.iter().find(|section| section.name == name) {
                return Err((
                    line,
                    format!("section [{name}] is already in line {}", first.line),
                ));
            }
            sections.push(Section {
                name: name.to_owned(),
                line,
                entries: Vec::new(),
            });
            continues = false;
            continue;
        }
        let Some(section) = sections.last_mut() else {
            return Err((line, format!("expected a [section], got {content}")));
        };
        if continues
            && raw.starts_with([' ', '\t'])
            && let Some(last) = section.entries.last_mut()
        {
            last.value.push(' ');
            last.value.push_str(content);
            continue;
        }
        let Some(at) = content.find(['=', ':']) else {
            return Err((line, format!("expected key = value, got {content}")));
        };
        let (key, value) = (content[..at].trim(), content[at + 1..].trim());
        if key.is_empty() {
            return Err((line, "a value needs a key before it".to_owned()));
        }
        if let Some(first) = section.get(key) {
            return Err((line, format!("{key} is already in line {}", first.line)));
        }
        section.entries.push(Entry {
            key: key.to_owned(),
            value: value.to_owned(),
            line,
        });
        continues = true;
    }
    Ok(sections)
}

/// A line without its comment and the spaces around it.
fn without_comment(line: &str) -> &str {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return "";
    }
    let comment = [" #", " ;", "\t#", "\t;"]
        .iter()
        .filter_map(|start| line.find(start))
        .min();
    line[..comment.unwrap_or(line.len())].trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_and_lines_are_found() {
        let text = "# cameras\n[door]\nsource = rtsp://a/b#c ; the front door\nnet_arch: [(32,5,2),\n  (8,3,2)]\n\n[yard] # behind\nsource=0\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!((sections[0].name.as_str(), sections[0].line), ("door", 2));
        let source = sections[0].get("source").unwrap();
        assert_eq!((source.value.as_str(), source.line), ("rtsp://a/b#c", 3));
        assert_eq!(sections[0].get("net_arch").unwrap().value, "[(32,5,2), (8,3,2)]");
        assert_eq!(sections[1].get("source").unwrap().line, 8);
    }

    #[test]
    fn what_is_no_ini_is_reported_with_its_line() {
        for (text, line, part) in [
            ("source = 0\n", 1, "expected a [section]"),
            ("[a]\nsource\n", 2, "expected key = value"),
            ("[a]\n= 3\n", 2, "needs a key"),
            ("[a]\nx=1\nx=2\n", 3, "already in line 2"),
            ("[a]\n[a]\n", 2, "already in line 1"),
            ("[ ]\n", 1, "needs a name"),
        ] {
            let (at, reason) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(reason.contains(part), "{reason}");
        }
    }
}
