//! The sign of life in the JSON of `/api/v1/status`.

use serde::{Deserialize, Serialize};
use shard_telemetry::sign_of_life::SignOfLife;

/// The sign of life to a service outside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HeartbeatOutJson {
    /// The host of the service, with its scheme. The rest of the address is a secret.
    pub service: String,
    /// How many the service has accepted.
    pub sent: u64,
    /// How many it has not.
    pub failed: u64,
    /// Seconds since it accepted one; null before the first.
    pub age_seconds: Option<f64>,
    /// Why the last one was not accepted; null if it was.
    pub trouble: Option<String>,
    /// Why none is sent now; null if it is.
    pub withheld: Option<String>,
}

impl HeartbeatOutJson {
    pub(super) fn of(sign: &SignOfLife) -> Self {
        let told = sign.told();
        Self {
            service: sign.address().to_string(),
            sent: told.sent,
            failed: told.failed,
            age_seconds: told.last.map(|at| at.elapsed().as_secs_f64()),
            trouble: told.trouble,
            withheld: told.withheld,
        }
    }
}
