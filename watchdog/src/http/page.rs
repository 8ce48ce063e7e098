//! The status page: one document with its style and its script, all of it in the program. Nothing
//! in it is made from what a target or a person wrote: the script asks for that as JSON, and shows
//! it as text.
//!
//! Its policy allows only what comes from this sidecar, and no script or style in the document
//! itself: a name that found its way into the document would do nothing there.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::api;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`: the page for browsers, the list of paths for all others.
pub(super) async fn page(headers: HeaderMap) -> Response {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let answer = if accepted.any(|accepts| accepts.to_ascii_lowercase().contains("text/html")) {
        part("text/html; charset=utf-8", PAGE)
    } else {
        part("text/plain; charset=utf-8", api::PATHS)
    };
    ([(header::VARY, "accept")], answer).into_response()
}

/// `GET /paths`
pub(super) async fn paths() -> Response {
    part("text/plain; charset=utf-8", api::PATHS)
}

/// `GET /page.css`
pub(super) async fn style() -> Response {
    part("text/css; charset=utf-8", STYLE)
}

/// `GET /page.js`
pub(super) async fn script() -> Response {
    part("text/javascript; charset=utf-8", SCRIPT)
}

/// After an upgrade of the sidecar no part of the older page may be used with the newer ones.
fn part(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// Tells browsers to do nothing with an answer but what the page does: not to guess its type, not
/// to run anything in it, and to tell no other server of it.
pub(super) async fn confine(mut answer: Response) -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in headers {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
