//! `GET /openapi.json`: the API as OpenAPI 3.1. The document is `docs/openapi.json`, byte for byte:
//! it is made of the types of this program when the tests run, and a test fails if it is not.

#[cfg(feature = "schema")]
pub mod document;
#[cfg(feature = "schema")]
mod paths;

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The document.
pub const TEXT: &str = include_str!("../../../docs/openapi.json");

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], TEXT).into_response()
}
