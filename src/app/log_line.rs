//! How a record becomes one line of the log: its message, then its fields, as text or as JSON.

use log::{
    Record,
    kv::{self, Key, VisitSource, VisitValue},
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

use crate::time_source::{SystemTime, TimeSource};

/// `log.format`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    /// The whole line, with its line feed.
    pub(super) fn line(self, record: &Record<'_>) -> String {
        let mut fields = Fields::default();
        // Only a field that can't be displayed fails. The line goes without it and those behind it.
        let _ = record.key_values().visit(&mut fields);
        let line = Line {
            time: SystemTime.now().rfc3339(),
            level: record.level().as_str(),
            target: record.target(),
            message: one_line(&record.args().to_string()),
            fields,
        };
        match self {
            Self::Text => line.text(),
            // Texts, numbers and booleans alone: this can't fail.
            Self::Json => serde_json::to_string(&line).unwrap_or_default() + "\n",
        }
    }
}

struct Line<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: String,
    fields: Fields,
}

/// The names that every JSON line has.
const OWN_NAMES: [&str; 4] = ["time", "level", "target", "message"];

impl Line<'_> {
    fn text(&self) -> String {
        let Self { time, level, target, message, fields } = self;
        let mut line = format!("[{time} {level:<5} {target}] {message}");
        for (name, value) in &fields.0 {
            line.push(' ');
            line += &word(name);
            line.push('=');
            match value {
                Value::String(text) => line += &word(text),
                other => line += &other.to_string(),
            }
        }
        line + "\n"
    }
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry(OWN_NAMES[0], &self.time)?;
        line.serialize_entry(OWN_NAMES[1], &self.level.to_ascii_lowercase())?;
        line.serialize_entry(OWN_NAMES[2], self.target)?;
        line.serialize_entry(OWN_NAMES[3], &self.message)?;
        for (name, value) in &self.fields.0 {
            line.serialize_entry(name, value)?;
        }
        line.end()
    }
}

/// A record's fields in their order: numbers and booleans as such, everything else as text. A null is left out.
#[derive(Default)]
struct Fields(Vec<(String, Value)>);

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let mut typed = Typed(Value::Null);
        value.visit(&mut typed)?;
        if !typed.0.is_null() {
            let mut name = key.to_string();
            // A dependency may use any name, and a JSON object has each name once.
            while OWN_NAMES.contains(&&*name) || self.0.iter().any(|(other, _)| *other == name) {
                name.push('_');
            }
            self.0.push((name, typed.0));
        }
        Ok(())
    }
}

/// A field's value as JSON.
struct Typed(Value);

impl VisitValue<'_> for Typed {
    fn visit_any(&mut self, value: kv::Value<'_>) -> Result<(), kv::Error> {
        self.visit_str(&value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        self.0 = one_line(value).into();
        Ok(())
    }
}

/// A text as it stands in a text line: in quotes unless it can't be mistaken for something else.
fn word(text: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !is_unsafe(c) && !matches!(c, '"' | '\\' | '=');
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { format!("{text:?}") }
}

/// Joins the lines of a text, and escapes what a terminal or an editor would obey: control characters, and Unicode's
/// other line ends and changes of direction.
fn one_line(text: &str) -> String {
    let joined = text.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    if !joined.contains(is_unsafe) {
        return joined;
    }
    joined.chars().flat_map(|c| if is_unsafe(c) { c.escape_unicode().collect() } else { vec![c] }).collect()
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use log::{Level, kv::Source};
    use serde_json::json;

    use super::*;

    fn line(format: LogFormat, message: &str, fields: &dyn Source) -> String {
        let mut record = Record::builder();
        let record = record.level(Level::Info).target("handsup").key_values(fields);
        format.line(&record.args(format_args!("{message}")).build())
    }

    fn as_json(message: &str, fields: &dyn Source) -> Value {
        serde_json::from_str(&line(LogFormat::Json, message, fields)).unwrap()
    }

    #[test]
    fn a_record_is_one_line_whatever_it_contains() {
        let message = "ERROR: it failed\n  HINT:  try\r\nagain\u{1b}[31m\u{2028}\u{202e}\n";
        let fields = [("error", "one\nline \u{1b}[2J \u{85}x"), ("wor\nse", "x")];
        let text = line(LogFormat::Text, message, &fields);
        let rest = "INFO  handsup] ERROR: it failed HINT:  try again\\u{1b}[31m\\u{2028}\\u{202e} \
                    error=\"one line \\\\u{1b}[2J \\\\u{85}x\" \"wor\\nse\"=x\n";
        assert!(text.ends_with(rest), "{text}");
        let json = line(LogFormat::Json, message, &fields);
        assert_eq!(json.matches('\n').count(), 1, "{json}");
        assert!(!json.trim_end().contains(is_unsafe), "{json}");
    }

    #[test]
    fn fields_follow_the_message_and_keep_their_types() {
        let fields: [(&str, kv::Value<'_>); 8] = [
            ("user", 7_u64.into()),
            ("price", (-3_i64).into()),
            ("took_ms", 1.25.into()),
            ("new", true.into()),
            ("path", "/goods/5/".into()),
            ("why", "a \"word\" = more".into()),
            ("nothing", kv::Value::null()),
            ("empty", "".into()),
        ];
        let text = line(LogFormat::Text, "it happened", &fields);
        let rest =
            r#"] it happened user=7 price=-3 took_ms=1.25 new=true path=/goods/5/ why="a \"word\" = more" empty="""#;
        assert!(text.trim_end().ends_with(rest), "{text}");
        let mut json = as_json("it happened", &fields);
        let time = json.as_object_mut().unwrap().remove("time");
        assert!(time.is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
        let expected = json!({
            "level": "info", "target": "handsup", "message": "it happened", "user": 7, "price": -3, "took_ms": 1.25,
            "new": true, "path": "/goods/5/", "why": "a \"word\" = more", "empty": "",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn a_field_replaces_neither_the_lines_own_names_nor_another_field() {
        let json = as_json("it happened", &[("message", "mine"), ("time", "never"), ("x", "1"), ("x", "2")]);
        assert_eq!(json["message"], "it happened");
        for (name, value) in [("message_", "mine"), ("time_", "never"), ("x", "1"), ("x_", "2")] {
            assert_eq!(json[name], value);
        }
    }
}
