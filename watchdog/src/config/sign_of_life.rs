//! `[heartbeat_out]`: a sign of life to a service outside.

use std::time::Duration;

use shard_telemetry::sign_of_life::{Address, SignOfLifeConfig};
use toml::de::DeValue;

use super::section::{Complaints, Section};
use super::units::{self, DURATION_FORM};

/// The usual period of a check at such services.
const INTERVAL: Duration = Duration::from_secs(60);
/// More often is a load on somebody else's service; more seldom would call nobody for a day.
const INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(24 * 3600)];
/// What a slow service on the other side of the world takes, several times over.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// A service that takes longer will not answer.
const LONGEST: Duration = Duration::from_secs(60);

pub(super) fn heartbeat_out(
    mut section: Section<'_>,
    complaints: &mut Complaints<'_>,
) -> Option<SignOfLifeConfig> {
    let form = "an address such as \"https://hc.example/ping/UUID\"";
    let url = section.parse("url", form, complaints, |value| Address::parse(value.as_str()?).ok());
    if url.is_none() && !section.was_there("url") {
        complaints.add_at(
            section.start(),
            "heartbeat_out.url",
            "is missing: who is to hear of this sidecar?",
        );
    }
    let within = |value: &DeValue<'_>, least: Duration, most: Duration| {
        value.as_str().and_then(units::duration).filter(|time| (least..=most).contains(time))
    };
    let [least, most] = INTERVALS;
    let form = format!("{DURATION_FORM}, from {} to a day", units::written(least));
    let interval = section
        .parse("interval", &form, complaints, |value| within(value, least, most))
        .map(|(time, _)| time);
    let form = format!("{DURATION_FORM}, longer than zero and at most {}", units::written(LONGEST));
    let shortest = Duration::from_millis(1);
    let time_limit = section
        .parse("time_limit", &form, complaints, |value| within(value, shortest, LONGEST))
        .map(|(time, _)| time);
    section.finish(complaints);
    Some(SignOfLifeConfig {
        url: url?.0,
        interval: interval.unwrap_or(INTERVAL),
        time_limit: time_limit.unwrap_or(TIME_LIMIT),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;
    use crate::config::read::parse;

    fn check(text: &str) -> Result<Config, String> {
        parse(text, Path::new("w.toml")).map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_sign_of_life_has_defaults_and_bounds() {
        let start = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\n";
        let of = |keys: &str| check(&format!("{start}[heartbeat_out]\n{keys}"));
        let plain = of("url = \"https://hc.example/ping/secret\"\n").unwrap().heartbeat_out.unwrap();
        assert_eq!((plain.interval.as_secs(), plain.time_limit.as_secs()), (60, 10));
        assert_eq!(plain.url.to_string(), "https://hc.example");
        assert!(check(start).unwrap().heartbeat_out.is_none(), "off unless asked for");
        for (keys, told) in [
            ("", "w.toml:4: heartbeat_out.url: is missing"),
            (
                "url = \"hc.example\"\n",
                "w.toml:5: heartbeat_out.url: found \"hc.example\": allowed: an address",
            ),
            ("url = \"http://h\"\ninterval = \"10ms\"\n", "w.toml:6: heartbeat_out.interval: found"),
            ("url = \"http://h\"\ntime_limit = \"2m\"\n", "w.toml:6: heartbeat_out.time_limit: found"),
            ("url = \"http://h\"\nurll = 1\n", "w.toml:6: heartbeat_out.urll: found urll: unknown key"),
        ] {
            let error = of(keys).unwrap_err();
            assert!(error.contains(told), "{keys:?}: {error}");
        }
    }
}
