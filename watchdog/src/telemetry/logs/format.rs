//! The format of a log line. Every line names its shard, so that lines of many sidecars can be told
//! apart in one place.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Longer fields are cut: some contain text from the target or from a file.
const LONGEST_FIELD: usize = 2_048;

/// Crates whose lines do not name their library.
const OURS: [&str; 2] = [env!("CARGO_CRATE_NAME"), "shard_telemetry"];

/// One JSON object.
#[derive(Clone, Debug)]
pub struct JsonLine {
    shard: String,
}

impl JsonLine {
    /// A formatter for `shard`.
    pub fn new(shard: &str) -> Self {
        Self { shard: shard.to_owned() }
    }
}

#[derive(Serialize)]
struct Object<'a> {
    time: String,
    level: &'static str,
    shard: &'a str,
    message: String,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Said { message, mut fields } = Said::by(event);
        if !OURS.iter().any(|ours| event.metadata().target().starts_with(ours)) {
            fields.insert("library".to_owned(), Value::from(event.metadata().target()));
        }
        let level = word(*event.metadata().level());
        let object = Object { time: now(), level, shard: &self.shard, message, fields };
        writer.write_str(&serde_json::to_string(&object).map_err(|_| fmt::Error)?)?;
        writer.write_char('\n')
    }
}

/// One line for a person.
#[derive(Clone, Debug)]
pub struct TextLine {
    shard: String,
    colour: bool,
}

impl TextLine {
    /// A formatter for `shard`, with or without colours.
    pub fn new(shard: &str, colour: bool) -> Self {
        Self { shard: shard.to_owned(), colour }
    }
}

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Said { message, fields } = Said::by(event);
        let level = *event.metadata().level();
        let (on, off) = if self.colour { (colour(level), "\x1b[0m") } else { ("", "") };
        write!(writer, "{} {on}{:<5}{off} [shard {}] {}", now(), word(level), self.shard, plain(&message))?;
        for (key, value) in &fields {
            match value {
                // The message already contains these.
                _ if key == "event" || key == "why" => {}
                Value::String(text) => write!(writer, " {key}={}", plain(text))?,
                other => write!(writer, " {key}={other}")?,
            }
        }
        writer.write_char('\n')
    }
}

fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[2m",
    }
}

/// Escapes control characters. Names come from the target: on a terminal they must not move the
/// cursor or begin a line.
fn plain(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The content of one event.
#[derive(Debug, Default)]
struct Said {
    message: String,
    fields: Map<String, Value>,
}

impl Said {
    fn by(event: &Event<'_>) -> Self {
        let mut said = Self::default();
        event.record(&mut said);
        said
    }

    fn say(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            // A library must not set the line's own keys.
            ("time" | "level" | "shard" | "message", _) => {}
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

fn cut(text: &str) -> Value {
    if text.len() <= LONGEST_FIELD {
        return Value::from(text);
    }
    Value::from(format!("{}…", &text[..text.floor_char_boundary(LONGEST_FIELD)]))
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.say(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.say(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.say(field, Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.say(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.say(field, cut(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.say(field, cut(&format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Page {
        type Writer = Self;
        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(text: bool, log: impl FnOnce()) -> String {
        let page = Page::default();
        let builder = tracing_subscriber::fmt().with_writer(page.clone());
        if text {
            tracing::subscriber::with_default(builder.event_format(TextLine::new("3", false)).finish(), log);
        } else {
            tracing::subscriber::with_default(builder.event_format(JsonLine::new("3")).finish(), log);
        }
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_has_time_level_shard_message_and_fields() {
        let line = logged(false, || {
            tracing::warn!(event = "refused", pid = 4, shard = "fake", "not \"watching\"\n");
        });
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(value["level"], "warn");
        assert_eq!(value["shard"], "3");
        assert_eq!(value["message"], "not \"watching\"\n");
        assert_eq!(value["event"], "refused");
        assert_eq!(value["pid"], 4);
        assert!(value["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }

    #[test]
    fn a_text_line_stays_one_line_and_moves_no_cursor() {
        let line = logged(true, || tracing::info!(thread = "a\nb\u{1b}[2J", "hello\r"));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\u{1b}') && !line.contains('\r'), "{line:?}");
        assert!(line.contains("info  [shard 3] hello"), "{line}");
    }

    #[test]
    fn a_long_field_is_cut() {
        let line = logged(false, || tracing::info!(why = "ü".repeat(50_000), "long"));
        assert!(line.len() < 3 * LONGEST_FIELD, "{}", line.len());
    }
}
