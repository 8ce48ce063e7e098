//! Parses rotel's record of what it was sent.
//!
//! The record is made for people: one attribute or number per line, under a heading for each
//! resource, metric, data point, span and log record. Unknown lines are skipped.

use std::collections::BTreeMap;

/// Attributes by key, each value as text without its type.
pub type Attributes = BTreeMap<String, String>;

/// Everything that arrived.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Data points of metrics, in order of arrival.
    pub points: Vec<Point>,
    /// Spans, in order of arrival.
    pub spans: Vec<Span>,
    /// Log records, in order of arrival.
    pub logs: Vec<Log>,
}

/// One data point of a metric.
#[derive(Clone, Debug, Default)]
pub struct Point {
    /// Attributes of the resource that sent it.
    pub resource: Attributes,
    /// Name of the metric.
    pub name: String,
    /// Attributes of the data point.
    pub attributes: Attributes,
    /// The value; for a histogram, the count.
    pub value: f64,
}

/// One span.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Attributes of the resource that sent it.
    pub resource: Attributes,
    /// Trace id, hex.
    pub trace: String,
    /// Span id, hex.
    pub id: String,
    /// Parent's span id, hex; empty for a root.
    pub parent: String,
    /// Name of the span.
    pub name: String,
    /// Start, nanoseconds since 1970.
    pub start: u64,
    /// End, nanoseconds since 1970.
    pub end: u64,
    /// Attributes of the span.
    pub attributes: Attributes,
    /// Names of the span's events, in order.
    pub events: Vec<String>,
    /// Links: trace id and span id, hex.
    pub links: Vec<(String, String)>,
}

/// One log record.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Attributes of the resource that sent it.
    pub resource: Attributes,
    /// When it was logged, nanoseconds since 1970; zero if not given.
    pub at: u64,
    /// Name of the event.
    pub event: String,
    /// Severity as a word.
    pub severity: String,
    /// The message.
    pub body: String,
    /// Attributes of the log record.
    pub attributes: Attributes,
    /// Id of the trace it belongs to; empty if none.
    pub trace: String,
    /// Id of the span it belongs to; empty if none.
    pub span: String,
}

/// What the current lines describe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Unknown,
    Resource,
    Metric,
    Point,
    Span,
    SpanEvent,
    SpanLink,
    Log,
}

impl Record {
    /// Parses the collector's lines.
    pub fn read(lines: &[String]) -> Self {
        let mut reading = Reading::default();
        for line in lines {
            reading.line(line.trim());
        }
        reading.record
    }

    /// The newest value of a metric whose attributes include these.
    pub fn newest(&self, metric: &str, attributes: &[(&str, &str)]) -> Option<f64> {
        let fits = |point: &&Point| {
            let has = |(key, value): &(&str, &str)| point.attributes.get(*key).is_some_and(|v| v == value);
            point.name == metric && attributes.iter().all(has)
        };
        self.points.iter().rev().find(fits).map(|point| point.value)
    }

    /// The spans of one trace.
    pub fn trace(&self, id: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.trace == id).collect()
    }
}

#[derive(Debug, Default)]
struct Reading {
    record: Record,
    part: Part,
    resource: Attributes,
    metric: String,
}

impl Reading {
    fn line(&mut self, line: &str) {
        if let Some(part) = heading(line) {
            self.begin(part);
        } else if let Some((key, value)) = line.strip_prefix("-> ").and_then(|pair| pair.split_once(':')) {
            self.pair(key, value.trim());
        } else if let Some((key, value)) = line.split_once(':') {
            self.field(key.trim(), value.trim());
        }
    }

    fn begin(&mut self, part: Part) {
        self.part = part;
        let resource = self.resource.clone();
        match part {
            Part::Resource => self.resource.clear(),
            Part::Point => {
                let name = self.metric.clone();
                self.record.points.push(Point { resource, name, ..Point::default() });
            }
            Part::Span => self.record.spans.push(Span { resource, ..Span::default() }),
            Part::Log => self.record.logs.push(Log { resource, ..Log::default() }),
            Part::SpanLink => {
                if let Some(span) = self.record.spans.last_mut() {
                    span.links.push((String::new(), String::new()));
                }
            }
            Part::Metric | Part::SpanEvent | Part::Unknown => {}
        }
    }

    /// A line with an arrow: an attribute, or a property of a metric, an event or a link.
    fn pair(&mut self, key: &str, value: &str) {
        let Record { points, spans, logs } = &mut self.record;
        let into = match self.part {
            Part::Resource => Some(&mut self.resource),
            Part::Point => points.last_mut().map(|point| &mut point.attributes),
            Part::Span => spans.last_mut().map(|span| &mut span.attributes),
            Part::Log => logs.last_mut().map(|log| &mut log.attributes),
            Part::Metric => {
                if key == "Name" {
                    value.clone_into(&mut self.metric);
                }
                None
            }
            Part::SpanEvent => {
                if let Some(span) = spans.last_mut().filter(|_| key == "Name") {
                    span.events.push(value.to_owned());
                }
                None
            }
            Part::SpanLink => {
                if let Some(link) = spans.last_mut().and_then(|span| span.links.last_mut()) {
                    match key {
                        "Trace ID" => value.clone_into(&mut link.0),
                        "ID" => value.clone_into(&mut link.1),
                        _ => {}
                    }
                }
                None
            }
            Part::Unknown => None,
        };
        if let Some(into) = into {
            into.insert(key.to_owned(), untyped(value));
        }
    }

    /// A line without an arrow.
    fn field(&mut self, key: &str, value: &str) {
        let Record { points, spans, logs } = &mut self.record;
        let number = || value.parse().unwrap_or_default();
        match (self.part, points.last_mut(), spans.last_mut(), logs.last_mut()) {
            (Part::Point, Some(point), _, _) => {
                if matches!(key, "Value" | "Count") {
                    point.value = value.parse().unwrap_or(f64::NAN);
                }
            }
            (Part::Span, _, Some(span), _) => match key {
                "Trace ID" => value.clone_into(&mut span.trace),
                "Parent ID" => value.clone_into(&mut span.parent),
                "ID" => value.clone_into(&mut span.id),
                "Name" => value.clone_into(&mut span.name),
                "Start time" => span.start = number(),
                "End time" => span.end = number(),
                _ => {}
            },
            (Part::Log, _, _, Some(log)) => match key {
                "Timestamp" => log.at = number(),
                "SeverityText" => value.clone_into(&mut log.severity),
                "EventName" => value.clone_into(&mut log.event),
                "Body" => log.body = untyped(value),
                "Trace ID" => value.clone_into(&mut log.trace),
                "Span ID" => value.clone_into(&mut log.span),
                _ => {}
            },
            _ => {}
        }
    }
}

/// The part that a heading begins.
fn heading(line: &str) -> Option<Part> {
    let (word, number) = line.split_once(" #")?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    Some(match word {
        "ResourceMetrics" | "ResourceSpans" | "ResourceLog" => Part::Resource,
        "Metric" => Part::Metric,
        "NumberDataPoints" | "HistogramDataPoints" => Part::Point,
        "Span" => Part::Span,
        "SpanEvent" => Part::SpanEvent,
        "SpanLink" => Part::SpanLink,
        "LogRecord" => Part::Log,
        _ => Part::Unknown,
    })
}

/// Turns `Str(text)` into `text`.
fn untyped(value: &str) -> String {
    let inner = value.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(value).to_owned()
}
