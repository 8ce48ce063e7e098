//! `[links]`: where the status page leads a person: a runbook, a trace, a dashboard.

use serde::{Deserialize, Serialize};

use super::section::{Complaints, Section};

/// What the page puts into an address, by the name that stands in braces.
pub const PLACEHOLDERS: [&str; 7] = ["shard", "reason", "alert", "incident", "trace_id", "from_ms", "to_ms"];
/// Browsers and proxies take this much.
const LONGEST: usize = 2_000;

/// An address with placeholders such as `{shard}`, which the page fills in and escapes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(String);

impl Template {
    /// Reads an address. `None` unless it begins with `http://` or `https://` and a host, has no
    /// user, no characters that no address has, and no placeholder but [`PLACEHOLDERS`], all of
    /// them after the host: nothing that a target or an incident contains may choose where a
    /// person is sent.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let (host, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host_fits = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let fits = |c: char| c.is_ascii_graphic() && !"\"<>\\^`|".contains(c);
        let good = text.len() <= LONGEST && !host.is_empty() && host.chars().all(host_fits);
        (good && rest.chars().all(fits) && are_known(rest)).then(|| Self(text.to_owned()))
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether each brace belongs to a placeholder.
fn are_known(text: &str) -> bool {
    let mut parts = text.split('{');
    let first = parts.next().unwrap_or_default();
    let known = |part: &str| {
        part.split_once('}').is_some_and(|(name, after)| PLACEHOLDERS.contains(&name) && !after.contains('}'))
    };
    !first.contains('}') && parts.all(known)
}

/// `[links]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Links {
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub runbook: Option<Template>,
    /// The trace of an incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub trace: Option<Template>,
    /// The dashboards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub dashboard: Option<Template>,
}

pub(super) fn links(section: Option<Section<'_>>, complaints: &mut Complaints<'_>) -> Links {
    let Some(mut section) = section else { return Links::default() };
    let mut read = |key, example| {
        let form = format!(
            "an address with http:// or https://, such as \"{example}\"; after the host it may have {}",
            PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(" ")
        );
        let read = section.parse(key, &form, complaints, |value| Template::parse(value.as_str()?));
        read.map(|(template, _)| template)
    };
    let links = Links {
        runbook: read("runbook", "https://wiki.example/shards/{alert}.md"),
        trace: read("trace", "https://tempo.example/trace/{trace_id}"),
        dashboard: read("dashboard", "https://grafana.example/d/shard?var-shard={shard}"),
    };
    section.finish(complaints);
    links
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read::parse;

    #[test]
    fn an_address_leads_to_its_own_host_whatever_is_filled_in() {
        for good in [
            "https://wiki.example/{alert}.md",
            "http://127.0.0.1:3000/d/x?var-shard={shard}&from={from_ms}&to={to_ms}",
            "https://[::1]/trace/{trace_id}",
            "https://grafana.example",
        ] {
            assert_eq!(Template::parse(good).as_ref().map(Template::as_str), Some(good));
        }
        for bad in [
            "javascript:alert(1)",
            "ftp://wiki.example/",
            "//wiki.example/",
            "https://",
            "https:///x",
            "https://{shard}.example/",
            "https://user:secret@wiki.example/",
            "https://wiki.example/{thread}",
            "https://wiki.example/{shard",
            "https://wiki.example/shard}",
            "https://wiki.example/{shard}}",
            "https://wiki.example/\"onclick",
            "https://wiki.example/a b",
            "https://wiki.example/\n",
        ] {
            assert_eq!(Template::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_wrong_link_is_told_with_its_line_and_none_is_needed() {
        let start = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n";
        let check = |text: &str| parse(text, Path::new("w.toml")).map_err(|problems| problems.to_string());
        assert_eq!(check(start).unwrap().links, Links::default());
        let good = check(&format!("{start}[links]\nrunbook = \"https://w.example/{{alert}}\"\n")).unwrap();
        assert!(good.links.runbook.is_some() && good.links.trace.is_none());
        let error = check(&format!("{start}[links]\ntrace = \"javascript:alert(1)\"\n")).unwrap_err();
        assert!(error.contains("w.toml:5: links.trace: found \"javascript:alert(1)\": allowed: an address"));
        assert!(error.contains("{trace_id}"), "{error}");
        let error = check(&format!("{start}[links]\nrunbok = \"https://w.example\"\n")).unwrap_err();
        assert!(error.contains("did you mean \"runbook\"?"), "{error}");
    }
}
