//! `GET /api/v1/events`: what happens, as Server-Sent Events. The stream ends with its connection,
//! whose life is limited like that of any other; a client comes back with `Last-Event-ID` and
//! misses nothing.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderName, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::feed::{Heard, Listener, STREAMS};

use super::Sources;
use super::answer::Problem;
use super::serve::Ending;

/// Proxies end a connection on which nothing comes for half a minute or more.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client shall wait before it comes back, by itself. What is held lasts longer.
const RETRY: Duration = Duration::from_secs(2);

/// What a client repeats of the last event that it got.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx not to collect the events of minutes first.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// `GET /api/v1/events`
pub(super) async fn events(
    State(sources): State<Sources>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Response {
    // An id that is no text is unknown; that there is one counts.
    let after = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or_default());
    // A browser that got no id yet sends none, and some clients send an empty one.
    let Some(listener) = sources.feed.listen(after.filter(|id| !id.is_empty())) else {
        let error = format!(
            "{STREAMS} streams of events are open, and there are no more: end one of them, or ask GET /api/v1/status now and then"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, Json(Problem { error })).into_response();
    };
    let ending = extensions.get::<Ending>().cloned().unwrap_or_default();
    let events = stream::unfold((listener, ending), next);
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    ([UNBUFFERED], Sse::new(events).keep_alive(keep_alive)).into_response()
}

type Held = (Listener, Ending);

async fn next((mut listener, mut ending): Held) -> Option<(Result<Event, Infallible>, Held)> {
    let heard = tokio::select! {
        // What waits then is there for the client when it comes back.
        biased;
        () = ending.begins() => None,
        heard = listener.next() => heard,
    }?;
    Some((Ok(event(heard)), (listener, ending)))
}

fn event(Heard { id, kind, data }: Heard) -> Event {
    let event = Event::default().id(id);
    match kind {
        Some(kind) => event.event(kind.label()).data(data),
        None => event.retry(RETRY),
    }
}
