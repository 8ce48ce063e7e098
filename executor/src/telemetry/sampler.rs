//! Decides which blocks are traced: `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`. The
//! coordinator decides for a whole trace; a shard follows the flag that comes with a part. That is
//! what the `parentbased_` kinds specify, so both kinds mean the same here.

use opentelemetry::trace::TraceId;

/// Decides by a trace's id, so that the same id always gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Trace ids whose lower 63 bits are below this are exported.
    below: u64,
}

/// A variable that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?} is not understood: {allowed}")]
pub struct SamplerError {
    variable: &'static str,
    value: String,
    allowed: &'static str,
}

/// How many values the compared part of an id has.
const IDS: u64 = 1 << 63;

impl Sampler {
    /// Exports every block.
    pub const ALWAYS: Self = Self { below: IDS };

    /// The sampler that the variables specify; without them every block is exported.
    ///
    /// # Errors
    /// If one of them cannot be parsed.
    pub fn from_environment() -> Result<Self, SamplerError> {
        let text = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().trim().to_owned());
        Self::with(|name| text(name).filter(|value| !value.is_empty()))
    }

    fn with(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SamplerError> {
        const KIND: &str = "OTEL_TRACES_SAMPLER";
        const SHARE: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(kind) = variable(KIND) else { return Ok(Self::ALWAYS) };
        match kind.strip_prefix("parentbased_").unwrap_or(&kind) {
            "always_on" => Ok(Self::ALWAYS),
            "always_off" => Ok(Self { below: 0 }),
            "traceidratio" => {
                let Some(text) = variable(SHARE) else { return Ok(Self::ALWAYS) };
                match text.parse::<f64>() {
                    Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self::share(share)),
                    _ => Err(SamplerError {
                        variable: SHARE,
                        value: text,
                        allowed: "say a share from 0 to 1, such as 0.01",
                    }),
                }
            }
            _ => Err(SamplerError {
                variable: KIND,
                value: kind,
                allowed: "say always_on, always_off or traceidratio, or one of them after parentbased_",
            }),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of 2^63, which a float holds exactly; the last digits of the product mean nothing"
    )]
    fn share(share: f64) -> Self {
        Self { below: (share * IDS as f64) as u64 }
    }

    /// Whether the trace with that id is exported.
    pub fn takes(&self, id: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = id.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(kind: &str, share: Option<&str>) -> Result<Sampler, SamplerError> {
        Sampler::with(|name| match name {
            "OTEL_TRACES_SAMPLER" => Some(kind.to_owned()),
            _ => share.map(str::to_owned),
        })
    }

    #[test]
    fn the_variables_mean_what_the_specification_says() {
        assert_eq!(Sampler::with(|_| None).expect("every block"), Sampler::ALWAYS);
        let highest = TraceId::from_bytes([0xff; 16]);
        assert!(sampler("parentbased_always_on", None).expect("on").takes(highest));
        assert!(!sampler("always_off", None).expect("off").takes(TraceId::from_bytes([0; 16])));
        assert!(sampler("traceidratio", Some("1")).expect("all").takes(highest));
        let tenth = sampler("parentbased_traceidratio", Some("0.1")).expect("a tenth");
        let id = |n: u64| TraceId::from_bytes(u128::from(n).to_be_bytes());
        let taken = (0..1_000).filter(|n| tenth.takes(id(n * (u64::MAX / 1_000)))).count();
        assert!((99..=101).contains(&taken), "{taken}");
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (kind, share) in
            [("jaeger_remote", None), ("traceidratio", Some("10")), ("traceidratio", Some("NaN"))]
        {
            let error = sampler(kind, share).expect_err("not ours").to_string();
            assert!(error.starts_with("OTEL_TRACES_SAMPLER"), "{error}");
        }
    }
}
