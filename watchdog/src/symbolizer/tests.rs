use std::sync::mpsc;

use super::*;
use crate::incident::Incident;
use crate::incident::journal::JournalConfig;

const WITHIN: Duration = Duration::from_secs(60);
const SAID: &str = r#"{"headline":"thread a is in b","tid":7,"own_frames":["b","c"]}"#;

/// A journal with one incident that has a dump.
fn journal(folder: &std::path::Path) -> (Journal, IncidentId) {
    let config = JournalConfig {
        directory: crate::own_folder::Place::new(folder.to_owned(), Arc::default()),
        keep_incidents: 50,
        keep_bytes: 1 << 20,
    };
    let journal = Journal::start(&config, Arc::default(), None).unwrap();
    let (_, document) = include_bytes!("../../fuzz/kept/kept_file/incident").split_first().unwrap();
    let incident: Incident = serde_json::from_slice(document).unwrap();
    let id = incident.id.clone();
    journal.record(Arc::new(incident));
    let mut dump = memory("dump").unwrap();
    std::io::Write::write_all(&mut dump, b"the dump").unwrap();
    journal.keep_dump(id.clone(), Arc::new(dump));
    (journal, id)
}

/// What becomes of a dump if each of these scripts is the process, one after the other.
fn outcomes(scripts: &[&str], time_limit: Duration) -> Vec<Result<FoundStacks, NoStacks>> {
    let folder = tempfile::tempdir().unwrap();
    let (journal, id) = journal(folder.path());
    let (deliver, delivered) = mpsc::channel();
    let mut left: Vec<String> = scripts.iter().rev().map(|script| (*script).to_owned()).collect();
    let command = move || {
        let mut command = Command::new("sh");
        command.args(["-c", &left.pop().unwrap()]);
        command
    };
    let symbolizer =
        Symbolizer::start(journal, time_limit, command, move |it| deliver.send(it).unwrap()).unwrap();
    let ask = |ticket: u64| {
        assert!(symbolizer.ask(ticket, id.clone()));
        let told = delivered.recv_timeout(WITHIN).unwrap();
        assert_eq!(told.ticket, ticket);
        told.stacks
    };
    (0..scripts.len() as u64).map(ask).collect()
}

#[test]
fn a_process_gets_the_dump_and_hands_over_text_and_frames() {
    let script = format!("cat; echo '{SAID}' >&2");
    let found = outcomes(&[&script], WITHIN).remove(0).unwrap();
    assert_eq!((found.headline.as_str(), found.tid), ("thread a is in b", 7));
    assert_eq!(found.own_frames, ["b", "c"]);
    let mut text = String::new();
    let mut file = &*found.text;
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "the dump");
}

#[test]
fn a_process_that_fails_dies_or_babbles_is_told_of_and_the_next_one_works() {
    let works = format!("echo '{SAID}' >&2");
    let scripts = ["echo no symbols >&2; exit 1", "kill -9 $$", "exit 3", "echo {} >&2", &works];
    let told: Vec<String> = outcomes(&scripts, WITHIN)
        .into_iter()
        .map(|stacks| match stacks {
            Ok(found) => found.headline,
            Err(NoStacks { outcome, why }) => format!("{}: {why}", outcome.label()),
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    failed: no symbols
    failed: the process for them was killed by SIGKILL
    failed: the process for them failed: exit status: 3
    failed: what it said cannot be understood: missing field `headline` at line 1 column 2
    thread a is in b
    ");
}

#[test]
fn a_process_that_takes_too_long_is_ended_and_counts_as_late() {
    let scripts = ["exec sleep 1000"];
    let why = outcomes(&scripts, Duration::from_millis(50)).remove(0).unwrap_err();
    assert_eq!(why.outcome, StacksOutcome::Late);
    assert!(why.why.contains("within 50 ms"), "{why:?}");
}
