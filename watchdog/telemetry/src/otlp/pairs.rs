//! Lists such as `key1=value1,key2=value2`, percent-encoded: headers and resource attributes.

use axum::http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::variables::Variables;

/// One header. Its value is marked as sensitive, so that it is not printed.
pub(super) type Header = (HeaderName, HeaderValue);

/// The headers in the variable `name`. An invalid entry is omitted, with a warning that does not
/// repeat it.
pub(super) fn headers(variables: &mut Variables<'_>, name: &str) -> Vec<Header> {
    let Some(text) = variables.text(name) else { return Vec::new() };
    let mut headers = Vec::new();
    for (number, entry) in entries(&text) {
        match header(entry) {
            Ok(header) => headers.push(header),
            Err(why) => variables.warn(
                name,
                format!("has an entry that cannot be used, number {number}: {why}. That entry is left out"),
            ),
        }
    }
    headers
}

fn header(entry: &str) -> Result<Header, &'static str> {
    let (key, value) = entry.split_once('=').ok_or("it has no \"=\"; write key=value")?;
    let key = key.trim().parse::<HeaderName>().map_err(|_| "its key is no name of a header")?;
    // A value that is not well encoded is used as it is, as the exporter does: many tokens come
    // like that.
    let decoded = decode(value.trim()).unwrap_or_else(|| value.trim().to_owned());
    let mut value = HeaderValue::from_str(&decoded).map_err(|_| "its value has control characters")?;
    value.set_sensitive(true);
    Ok((key, value))
}

/// The attributes in the variable `name`. One bad entry yields none at all: the specification then
/// discards the whole variable.
pub(super) fn attributes(variables: &mut Variables<'_>, name: &str) -> Vec<(String, String)> {
    let Some(text) = variables.text(name) else { return Vec::new() };
    let mut attributes = Vec::new();
    for (number, entry) in entries(&text) {
        let pair = entry.split_once('=').and_then(|(key, value)| {
            let key = decode(key.trim()).filter(|key| !key.is_empty())?;
            Some((key, decode(value.trim())?))
        });
        let Some(pair) = pair else {
            let what = format!(
                "cannot be read at entry number {number}: allowed is key=value,key=value with \",\", \"=\" and \"%\" in \
                 keys and values percent-encoded. The variable is ignored"
            );
            variables.warn(name, what);
            return Vec::new();
        };
        attributes.push(pair);
    }
    attributes
}

/// The non-empty entries, counted from 1.
fn entries(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split(',')
        .map(str::trim)
        .zip(1..)
        .filter(|(entry, _)| !entry.is_empty())
        .map(|(entry, n)| (n, entry))
}

/// Decodes a text; `None` if the result is not valid text, or if a `%` encodes nothing.
fn decode(text: &str) -> Option<String> {
    let mut rest = text.split('%');
    rest.next();
    let whole =
        rest.all(|after| after.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit)));
    whole.then(|| percent_decode_str(text).decode_utf8().ok().map(String::from)).flatten()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn with<T>(value: &str, read: impl FnOnce(&mut Variables<'_>, &str) -> T) -> (T, Vec<String>) {
        let find = |_: &str| Some(OsString::from(value));
        let mut variables = Variables::new(&find);
        let read = read(&mut variables, "LIST");
        (read, variables.into_warnings().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn headers_are_decoded_and_a_bad_one_costs_itself_alone() {
        let (found, warnings) =
            with("authorization=Basic%20aGk6aGk=, x-a = b ,,tag=100%,bad name=1,nothing,x=%0a", headers);
        let found: Vec<_> =
            found.iter().map(|(key, value)| format!("{key}: {}", value.to_str().expect("text"))).collect();
        assert_eq!(found, ["authorization: Basic aGk6aGk=", "x-a: b", "tag: 100%"]);
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("number 5") && warnings[1].contains("number 6"), "{warnings:?}");
    }

    #[test]
    fn no_value_of_a_header_is_ever_shown() {
        let (found, warnings) = with("authorization=hunter2,hunter2", headers);
        let shown = format!("{found:?} {warnings:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn attributes_are_decoded_and_a_bad_one_costs_all() {
        let (found, warnings) = with("service.namespace=a%2Cb%3Dc,%C3%A9=%E2%9C%93,empty=,", attributes);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(found, [pair("service.namespace", "a,b=c"), pair("é", "✓"), pair("empty", "")]);
        assert!(warnings.is_empty(), "{warnings:?}");
        for bad in ["a=1,b", "=1", "a=%zz", "a=%2", "a=%ff", "a=1,%=2"] {
            let (found, warnings) = with(bad, attributes);
            assert!(found.is_empty() && warnings.len() == 1, "{bad}: {found:?} {warnings:?}");
        }
    }
}
