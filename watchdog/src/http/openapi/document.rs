//! Makes `docs/openapi.json`. Behind the feature `schema`, which only the tests have: the sidecar
//! serves the file.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::board::history::HistoryJson;
use crate::feed::{
    IncidentTold, Missed, NearMissTold, PauseTold, Reload, ResumeTold, ThreadTold, VerdictTold,
};
use crate::incident::{Incident, schema};
use crate::status_json::StatusJson;

use super::paths;
use crate::http::answer::{ClearedWork, Incidents, Killed, NearMisses, Paused, Problem, Resumed};
use crate::http::order::{ClearBody, KillBody, PauseBody};

/// What stands at the top of the document.
const ABOUT: &str = "What a sidecar of shard-watchdog answers over http.listen and http.socket. Questions are for \
    everybody who reaches the address. Orders (POST) are for the sidecar's own user and root over the unix socket, and \
    for holders of the token of http.token_file over the address. Ignore fields that you do not know: later versions \
    add some. http.public serves /livez, /readyz, /shard/readyz and /metrics only. docs/api.md says more.";

#[derive(OpenApi)]
#[openapi(
    info(title = "shard-watchdog", license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(
        paths::page,
        paths::style,
        paths::script,
        paths::paths,
        paths::livez,
        paths::readyz,
        paths::shard_readyz,
        paths::metrics,
        paths::openapi,
        paths::status,
        paths::history,
        paths::incidents,
        paths::near_misses,
        paths::incident,
        paths::incident_file,
        paths::events,
        paths::recording,
        paths::pause,
        paths::resume,
        paths::clear,
        paths::kill,
    ),
    components(schemas(
        StatusJson,
        HistoryJson,
        Incidents,
        NearMisses,
        Problem,
        Paused,
        Resumed,
        ClearedWork,
        Killed,
        PauseBody,
        ClearBody,
        KillBody,
        VerdictTold,
        IncidentTold,
        NearMissTold,
        ThreadTold,
        PauseTold,
        ResumeTold,
        Reload,
        Missed,
    ))
)]
struct Document;

/// The document as it stands in the repository.
///
/// # Errors
/// Those of the serializer.
pub fn text() -> serde_json::Result<String> {
    let mut document = serde_json::to_value(Document::openapi())?;
    document["info"]["description"] = ABOUT.into();
    document["components"]["securitySchemes"] = json!({
        "token": { "type": "http", "scheme": "bearer", "description": "the content of http.token_file" },
    });
    document["paths"]["/api/v1/clear"]["post"]["requestBody"]["required"] = false.into();
    everywhere(&mut document);
    incident(&mut document)?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Adds the answers that any request may get before its path is looked at.
fn everywhere(document: &mut Value) {
    let text = || json!({ "text/plain": { "schema": { "type": "string" } } });
    let answers = [
        ("400", "the request names no host, or more than one, or its path is not text"),
        ("413", "the request has a body where none is taken, or one of more than 8 KiB"),
        ("421", "the host in the request is none that is served here: see http.hosts"),
        ("503", "the answer took too long, or what it needs does not answer; try again"),
    ];
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (_, operation) in paths.flat_map(|(_, path)| path.as_object_mut().into_iter().flatten()) {
        let Some(given) = operation["responses"].as_object_mut() else { continue };
        for (code, why) in answers {
            let answer = given.entry(code).or_insert_with(|| json!({ "description": why }));
            let content =
                answer.as_object_mut().map(|answer| answer.entry("content").or_insert_with(|| json!({})));
            if let (Some(Value::Object(content)), Value::Object(text)) = (content, text()) {
                content.extend(text);
            }
        }
        for (_, answer) in given {
            if let Some(bytes) = answer.pointer_mut("/content/application~1octet-stream") {
                // utoipa takes bytes for a list of numbers.
                *bytes = json!({ "schema": { "type": "string", "format": "binary" } });
            }
        }
    }
}

/// Takes the incident, and all that it consists of, from the schema of `incident.json`.
fn incident(document: &mut Value) -> serde_json::Result<()> {
    let Value::Object(mut incident) = elsewhere(serde_json::from_str(&schema::document()?)?) else {
        return Ok(());
    };
    let parts = incident.remove("$defs");
    incident.remove("$schema");
    if let Some(components) = document["components"]["schemas"].as_object_mut() {
        let parts: Map<String, Value> =
            parts.and_then(|parts| parts.as_object().cloned()).unwrap_or_default();
        components.extend(parts);
        components.insert(name_of::<Incident>(), incident.into());
    }
    Ok(())
}

fn name_of<T>() -> String {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or_default().to_owned()
}

/// The same schema with its parts among the components of the document.
fn elsewhere(schema: Value) -> Value {
    match schema {
        Value::String(text) => match text.strip_prefix("#/$defs/") {
            Some(name) => format!("#/components/schemas/{name}").into(),
            None => text.into(),
        },
        Value::Array(all) => all.into_iter().map(elsewhere).collect(),
        Value::Object(all) => all.into_iter().map(|(key, value)| (key, elsewhere(value))).collect(),
        other => other,
    }
}
