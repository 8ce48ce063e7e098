//! A real browser: Chromium without a window, driven over WebDriver.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::Process;
use crate::{api, wait};

/// A page of a busy machine may take this long to run one script.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Arguments that keep Chromium from doing anything but what the page asks of it.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
];

/// Keys as WebDriver names them.
pub mod key {
    /// Tab.
    pub const TAB: &str = "\u{e004}";
    /// Enter.
    pub const ENTER: &str = "\u{e007}";
    /// Space.
    pub const SPACE: &str = " ";
}

/// Where Debian installs the two programs.
const PROGRAMS: [&str; 2] = ["/usr/bin/chromium", "/usr/bin/chromedriver"];

/// Where `tests/tools` puts the checker of accessibility.
fn axe() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/axe-core/axe.min.js")
}

/// Why there is no browser here, if so.
pub fn missing() -> Option<String> {
    if let Some(program) = PROGRAMS.iter().find(|program| !Path::new(program).exists()) {
        return Some(format!("{program} is not there (apt-get install chromium chromium-driver)"));
    }
    (!axe().exists()).then(|| "axe-core is not there (tests/tools installs it)".to_owned())
}

/// A browser with one page. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    _process: Process,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; the driver, which is our child, ends after it.
        let path = format!("/session/{}", self.session);
        let _ = request(self.driver, "DELETE", &path, None);
    }
}

fn request(driver: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {driver}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = api::say_within(driver, &format!("{head}{body}"), ANSWERS_WITHIN)?;
    serde_json::from_str(&answer.body).ok()
}

impl Browser {
    /// Starts it.
    #[track_caller]
    pub fn start() -> Self {
        let driver = api::free_address();
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(PROGRAMS[1]);
        command.arg(format!("--port={}", driver.port()));
        let process = Process::start("chromedriver", command);
        wait::until("a driver that is ready", || {
            request(driver, "GET", "/status", None).filter(|status| status["value"]["ready"] == true)
        });
        let folder = format!("--user-data-dir={}", profile.path().display());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([folder.as_str()]).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "binary": PROGRAMS[0], "args": arguments },
        } } });
        let answer = request(driver, "POST", "/session", Some(&wanted)).expect("an answer");
        let session = answer["value"]["sessionId"].as_str();
        let session = session.unwrap_or_else(|| panic!("no browser: {answer:#}")).to_owned();
        Self { driver, session, _process: process, _profile: profile }
    }

    #[track_caller]
    fn post(&self, path: &str, body: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        let answer = request(self.driver, "POST", &path, Some(body)).expect("the driver answers");
        assert!(answer["value"]["error"].is_null(), "{path} {body:.300}: {answer:#}");
        answer["value"].clone()
    }

    #[track_caller]
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens an address.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Sets the size of the page, and whether its user prefers dark pages.
    #[track_caller]
    pub fn show_as(&self, width: u32, height: u32, dark: bool) {
        let theme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Runs a script, whose `return` is the result.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of what a selector finds; empty if that is nothing.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.textContent ?? ''");
        self.run(&script).as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of what a selector finds contains `wanted`.
    #[track_caller]
    pub fn wait_for_text(&self, selector: &str, wanted: &str) -> String {
        let mut last = String::new();
        wait::until(&format!("{wanted:?} in {selector} of the page"), || {
            last = self.text(selector);
            last.contains(wanted).then(|| last.clone())
        })
    }

    /// Presses and releases a key.
    #[track_caller]
    pub fn press(&self, key: &str) {
        let actions = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", &json!({ "actions": [keyboard] }));
    }

    /// Presses Tab until what the selector finds has the focus.
    #[track_caller]
    pub fn tab_to(&self, selector: &str) {
        let reached = format!("return document.activeElement === document.querySelector({selector:?})");
        for _ in 0..60 {
            self.press(key::TAB);
            if self.run(&reached) == true {
                return;
            }
        }
        panic!("the keyboard does not reach {selector}");
    }

    /// A picture of the page, as PNG.
    #[track_caller]
    pub fn picture(&self, file: &Path) {
        let picture = self.devtools("Page.captureScreenshot", &json!({ "format": "png" }));
        let bytes = decoded(picture["data"].as_str().expect("a picture"));
        std::fs::write(file, bytes).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// What the checker of accessibility finds wrong.
    #[track_caller]
    pub fn accessibility_violations(&self) -> Vec<Value> {
        if self.run("return typeof axe") != "object" {
            let axe = std::fs::read_to_string(axe()).expect("axe-core, which `missing` asks for");
            self.run(&axe);
        }
        let check = "const done = arguments[0];
            axe.run(document).then((found) => done(found.violations), (error) => done([String(error)]))";
        let found = self.post("/execute/async", &json!({ "script": check, "args": [] }));
        found.as_array().expect("a list").clone()
    }

    /// Messages of the browser's console since the last call.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let entries = log.as_array().into_iter().flatten();
        entries.filter_map(|entry| entry["message"].as_str().map(str::to_owned)).collect()
    }

    /// Addresses that the page has requested since the last call.
    #[track_caller]
    pub fn requested(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "performance" }));
        let entries = log.as_array().into_iter().flatten().filter_map(|entry| entry["message"].as_str());
        let events = entries.filter_map(|text| serde_json::from_str::<Value>(text).ok());
        let sent = events.filter(|event| event["message"]["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["message"]["params"]["request"]["url"].as_str().map(str::to_owned))
            .collect()
    }
}

/// Base64, as WebDriver sends pictures.
fn decoded(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.bytes().filter_map(value).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - four.len()));
        bits.to_be_bytes().into_iter().skip(1).take(four.len() * 6 / 8)
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn pictures_are_decoded() {
        assert_eq!(super::decoded("iVBORw0KGgo="), b"\x89PNG\r\n\x1a\n");
        assert_eq!(super::decoded("TWE="), b"Ma");
    }
}
