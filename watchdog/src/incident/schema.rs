//! The JSON Schema of `incident.json`, derived from its types: `docs/incident.schema.json` is what
//! [`document`] returns. Behind the feature `schema`, which only the tests have: the sidecar never
//! asks for it.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::Incident;

/// What stands at the top of the schema.
const ABOUT: &str = "What a sidecar writes into incidents/<id>/incident.json, and what GET \
    /api/v1/incidents/{id} answers. A required field is always present, null where its value is \
    unknown. Ignore fields that you do not know: later versions add some. Documents of earlier \
    versions may lack fields; every version reads them.";

/// The schema as it stands in the repository.
///
/// # Errors
/// Those of the serializer.
pub fn document() -> serde_json::Result<String> {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Incident>();
    schema.insert("title".to_owned(), "incident.json of shard-watchdog".into());
    schema.insert("description".to_owned(), ABOUT.into());
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// A time on the wall clock.
#[derive(Debug)]
pub(super) struct Instant;

impl JsonSchema for Instant {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Instant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z$",
        })
    }
}

/// The id of a boot.
#[derive(Debug)]
pub(super) struct Boot;

impl JsonSchema for Boot {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Boot".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
    }
}

/// The id of an incident.
#[derive(Debug)]
pub(super) struct Id;

impl JsonSchema for Id {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^\d{8}T\d{9}Z-[0-9a-f]{4}$" })
    }
}
