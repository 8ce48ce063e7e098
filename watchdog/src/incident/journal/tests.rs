use super::*;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::clock::{BootId, Monotonic, WallAnchor};
use crate::event::{Opening, Step};
use crate::incident::folder::{self, RECORDING, THREADS};
use crate::incident::{Status, kills};
use crate::snapshot::TargetIdentity;
use crate::verdict::Reason;

const LONG: Duration = Duration::from_secs(20);
const SECOND: u64 = 1_000_000_000;

fn incident(number: u64, after_seconds: u64) -> Incident {
    let at = Monotonic(100 * SECOND + after_seconds * SECOND);
    let opening = Opening {
        incident: number,
        at: Monotonic(at.0 + 50_000),
        reason: Reason::ThreadGone,
        why: "thread exec-s0 ended while its process lives on".to_owned(),
        target: TargetIdentity { pid: 10, start_time: u64::MAX, incarnation: 30 },
        thread: None,
        last_progress: Monotonic(at.0 - 1_000_000),
        seen: at,
        threshold: None,
        observations: vec!["its pidfd is readable".to_owned()],
        last_words: None,
        tracer: None,
    };
    Incident::open(&opening, "0", "enforce", &WallAnchor::now())
}

fn step(incident: &Incident, after_us: u64, step: &Step) -> Incident {
    let mut next = incident.clone();
    let last = next.timeline.last().and_then(|entry| entry.monotonic_ns).unwrap();
    next.step(Monotonic(last + after_us * 1_000), step, &WallAnchor::now());
    next
}

fn start(directory: &std::path::Path, keep_incidents: u32, keep_bytes: u64) -> (Journal, Arc<Dropped>) {
    let dropped = Arc::new(Dropped::default());
    let config = JournalConfig {
        directory: Place::new(directory.to_owned(), Arc::default()),
        keep_incidents,
        keep_bytes,
    };
    (Journal::start(&config, Arc::clone(&dropped), None).unwrap(), dropped)
}

fn on_disk(directory: &std::path::Path, id: &IncidentId) -> Incident {
    let path = directory.join("incidents").join(id.as_str()).join("incident.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

const KILL: Step = Step::Signal { signal: "SIGKILL", error: None };

#[test]
fn each_step_is_on_the_disk_whole_and_nothing_half_written_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, dropped) = start(folder.path(), 50, 1 << 20);
    let opened = incident(1, 0);
    journal.record(Arc::new(opened.clone()));
    assert!(journal.flush(LONG));
    assert_eq!(on_disk(folder.path(), &opened.id).timeline.len(), 3);

    let killed = step(&opened, 40, &KILL);
    let dead = step(&killed, 900, &Step::Exited { how: None, after_signal: None });
    journal.record(Arc::new(killed));
    journal.record(Arc::new(dead));
    assert!(journal.flush(LONG));
    let read = on_disk(folder.path(), &opened.id);
    assert_eq!(read.durations.seen_to_verdict_us, Some(50));
    assert_eq!(read.durations.verdict_to_signal_us, Some(40));
    assert_eq!(read.durations.signal_to_dead_us, Some(900));
    assert_eq!(read.durations.dead_to_restarted_ms, None);

    let inside: Vec<_> = fs::read_dir(folder.path().join("incidents").join(opened.id.as_str()))
        .unwrap()
        .map(|item| item.unwrap().file_name())
        .collect();
    assert_eq!(inside, ["incident.json"]);
    assert_eq!(dropped.get(Signal::Incidents), 0);
}

#[test]
fn a_restarted_sidecar_goes_on_with_what_was_open_last_and_remembers_kills() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = start(folder.path(), 50, 1 << 20);
    let older = step(&incident(1, 0), 10, &KILL);
    let recovered = step(&step(&incident(2, 1), 10, &KILL), 10, &Step::Recovered { work_key: Some(7) });
    let open = step(&incident(3, 2), 10, &KILL);
    first.record(Arc::new(older.clone()));
    first.record(Arc::new(open.clone()));
    first.record(Arc::new(recovered.clone()));
    assert!(first.flush(LONG));
    drop(first);

    let (second, _) = start(folder.path(), 50, 1 << 20);
    let (past, pause) = second.past(LONG).unwrap();
    assert_eq!((past.ages.len(), past.cut, pause), (3, false, None));
    assert!(past.ages.is_sorted_by(|a, b| a > b), "the longest ago first: {past:?}");
    assert_eq!(second.get(&older.id).unwrap().status, Status::Interrupted, "only one can go on");
    assert_eq!(second.get(&recovered.id).unwrap().status, Status::Recovered);
    assert!(second.flush(LONG));
    let left = second.take_left().unwrap();
    assert_eq!((&left.id, left.status), (&open.id, Status::Open));
    assert!(second.take_left().is_none(), "it is given away once");
    for (id, status) in [(&older.id, Status::Interrupted), (&open.id, Status::Open)] {
        let read = on_disk(folder.path(), id);
        assert_eq!(read.status, status);
        assert_eq!(read.timeline.last().unwrap().step.label(), "sidecar_restarted");
    }
    drop(second);
    let (third, _) = start(folder.path(), 50, 1 << 20);
    assert!(third.flush(LONG));
    assert_eq!(on_disk(folder.path(), &open.id).timeline.len(), 5, "it is said once in a row");
}

#[test]
fn after_a_reboot_no_story_goes_on() {
    for boot in [None, Some(BootId(7))] {
        let folder = tempfile::tempdir().unwrap();
        let (first, _) = start(folder.path(), 50, 1 << 20);
        let open = Incident { boot, ..step(&incident(1, 0), 10, &KILL) };
        first.record(Arc::new(open.clone()));
        assert!(first.flush(LONG));
        drop(first);
        let (second, _) = start(folder.path(), 50, 1 << 20);
        assert!(second.flush(LONG) && second.take_left().is_none());
        assert_eq!(on_disk(folder.path(), &open.id).status, Status::Interrupted);
    }
}

/// Folders as a sidecar leaves them that is killed at its first write, and at its last deletion.
#[test]
fn what_a_killed_sidecar_left_unfinished_is_removed_and_counts_against_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = start(folder.path(), 50, 1 << 20);
    let kept = step(&incident(1, 0), 10, &Step::Recovered { work_key: None });
    first.record(Arc::new(kept.clone()));
    assert!(first.flush(LONG));
    drop(first);
    let incidents = folder.path().join("incidents");
    for (number, files) in
        [&[][..], &[".incident.json.new"], &[".incident.json.new", ".recording.new"]].into_iter().enumerate()
    {
        let begun = incidents.join(incident(2, number as u64 + 5).id.as_str());
        fs::create_dir(&begun).unwrap();
        files.iter().for_each(|file| fs::write(begun.join(file), "{\"id\":").unwrap());
    }
    fs::write(incidents.join(kept.id.as_str()).join(".recording.new"), vec![0; 1 << 20]).unwrap();
    for name in [".kills.json.new", ".deaths.json.new", ".pause.json.new"] {
        fs::write(folder.path().join(name), "{").unwrap();
    }
    // With two at most, whatever counted would push out the one that is whole.
    let (second, _) = start(folder.path(), 2, 1 << 20);
    let newer = step(&incident(3, 20), 10, &Step::Recovered { work_key: None });
    second.record(Arc::new(newer.clone()));
    assert!(second.flush(LONG));
    let mut left: Vec<_> = walk(folder.path());
    left.sort();
    let document = |one: &Incident| format!("incidents/{}/incident.json", one.id);
    assert_eq!(left, [document(&kept), document(&newer)]);
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files
}

#[test]
fn each_sidecar_that_signals_in_one_incident_pays_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = start(folder.path(), 50, 1 << 20);
    let killed = step(&step(&incident(1, 0), 10, &KILL), 10, &KILL);
    first.record(Arc::new(killed));
    assert!(first.flush(LONG));
    for kills in 1..=3 {
        let (next, _) = start(folder.path(), 50, 1 << 20);
        assert_eq!(next.past(LONG).unwrap().0.ages.len(), kills);
        let left = next.take_left().unwrap();
        next.record(Arc::new(step(&step(&left, 10, &KILL), 10, &KILL)));
        assert!(next.flush(LONG));
        assert_eq!(next.past(LONG).unwrap().0.ages.len(), kills + 1);
        // As many deaths, so that the same work at two of them is noticed.
        assert_eq!(next.deaths(LONG).unwrap().known(0).kills_without_progress(), kills as u32);
    }
}

#[test]
fn a_target_that_shows_no_signal_was_sent_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let start_time = procfs::process::Process::new(pid).unwrap().stat().unwrap().starttime;
    let (first, _) = start(folder.path(), 50, 1 << 20);
    // Condemned, with jitter or an excuse before the signal.
    let target = super::super::TargetRecord { pid, start_time, incarnation: 30 };
    first.record(Arc::new(Incident { target, ..incident(1, 0) }));
    assert!(first.flush(LONG));
    let kills = || {
        let (next, _) = start(folder.path(), 50, 1 << 20);
        next.past(LONG).unwrap().0.ages.len()
    };
    let alive = kills();
    child.kill().unwrap();
    while child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    // Whoever went on with the incident reported no verdict, so its end is no kill of ours.
    assert_eq!((alive, kills()), (0, 0));
}

#[test]
fn the_oldest_closed_incidents_make_room_and_open_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = start(folder.path(), 3, 1 << 20);
    let open = incident(0, 0);
    journal.record(Arc::new(open.clone()));
    let closed: Vec<Incident> =
        (1..6).map(|n| step(&incident(n, n * 10), 10, &Step::Recovered { work_key: None })).collect();
    for one in &closed {
        journal.record(Arc::new(one.clone()));
    }
    assert!(journal.flush(LONG));
    let mut left: Vec<String> = fs::read_dir(folder.path().join("incidents"))
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [open.id.to_string(), closed[3].id.to_string(), closed[4].id.to_string()]);
}

#[test]
fn the_limit_of_bytes_holds_too() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = start(folder.path(), 50, 1);
    for n in 0..4 {
        journal.record(Arc::new(step(&incident(n, n * 10), 10, &Step::Recovered { work_key: None })));
    }
    assert!(journal.flush(LONG));
    assert_eq!(fs::read_dir(folder.path().join("incidents")).unwrap().count(), 1);
}

#[test]
fn what_is_not_an_incident_is_never_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let incidents = folder.path().join("incidents");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("precious"), "x").unwrap();
    fs::create_dir_all(incidents.join("notes")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), incidents.join("20200101T000000000Z-0000")).unwrap();
    let (journal, _) = start(folder.path(), 1, 1);
    for n in 0..3 {
        journal.record(Arc::new(step(&incident(n, n * 10), 10, &Step::Recovered { work_key: None })));
    }
    assert!(journal.flush(LONG));
    assert!(incidents.join("notes").is_dir());
    assert!(elsewhere.path().join("precious").is_file());
}

#[test]
fn an_unwritable_folder_costs_the_disk_copy_only() {
    let folder = tempfile::tempdir().unwrap();
    // A file in place of the folder stops root too, whom permissions do not stop.
    fs::write(folder.path().join("incidents"), "in the way").unwrap();
    let (journal, dropped) = start(folder.path(), 50, 1 << 20);
    let opened = incident(1, 0);
    journal.record(Arc::new(opened.clone()));
    assert!(journal.flush(LONG));
    assert_eq!(dropped.get(Signal::Incidents), 1);
    assert_eq!(journal.latest().len(), 1);

    fs::remove_file(folder.path().join("incidents")).unwrap();
    journal.record(Arc::new(step(&opened, 10, &KILL)));
    assert!(journal.flush(LONG));
    assert_eq!(on_disk(folder.path(), &opened.id).timeline.len(), 4);
    assert_eq!(journal.trouble(), None);
}

#[test]
fn what_the_disk_refused_is_written_once_it_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("incidents"), "in the way").unwrap();
    let (journal, dropped) = start(folder.path(), 50, 1 << 20);
    let opened = incident(1, 0);
    let killed = step(&opened, 10, &KILL);
    journal.record(Arc::new(opened.clone()));
    for number in 0..=FILES {
        let name = [RECORDING, THREADS][number % 2];
        journal.keep_file(opened.id.clone(), name, vec![b'0' + number as u8]);
        journal.record(Arc::new(killed.clone()));
        assert!(journal.flush(LONG));
    }
    // Something else can be written meanwhile.
    journal.remember(Deaths::default());
    // Not a flush, which would try the others again.
    assert!(journal.deaths(LONG).is_some());
    assert!(journal.trouble().is_some(), "that is no reason to say that all is well");
    // One of the files was one too many.
    assert_eq!(dropped.get(Signal::Incidents), 2 * (1 + FILES as u64) + 1);

    fs::remove_file(folder.path().join("incidents")).unwrap();
    let inside = folder.path().join("incidents").join(opened.id.as_str());
    let deadline = Instant::now() + LONG;
    while !inside.join(THREADS).exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    // The first of each name is of the time before the first signal.
    assert_eq!(fs::read(inside.join(RECORDING)).unwrap(), b"0");
    assert_eq!(fs::read(inside.join(THREADS)).unwrap(), b"1");
    assert_eq!(on_disk(folder.path(), &opened.id).timeline.len(), 4);
    assert!(journal.flush(LONG));
    assert_eq!(journal.trouble(), None);
    // What an earlier sidecar did could not be read, and counts as one.
    assert_eq!(journal.past(LONG).unwrap().0.ages.len(), 1 + 1, "and the kill is charged");
    // There is room again.
    journal.keep_file(opened.id.clone(), folder::DUMP, vec![0]);
    assert!(journal.flush(LONG) && inside.join(folder::DUMP).exists());
}

#[test]
fn what_is_told_later_of_an_incident_that_waits_for_the_disk_is_written_too() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("incidents"), "in the way").unwrap();
    let (journal, _) = start(folder.path(), 50, 1 << 20);
    let recovered = step(&step(&incident(1, 0), 10, &KILL), 10, &Step::Recovered { work_key: None });
    journal.record(Arc::new(recovered.clone()));
    let stacks = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut &stacks, b"exec-s0\n").unwrap();
    journal.keep_stacks(recovered.id.clone(), Arc::new(stacks));
    journal.amend(Arc::new(step(&recovered, 10, &Step::NoStacks { why: "for a test".to_owned() })));
    assert!(journal.flush(LONG) && journal.trouble().is_some());
    fs::remove_file(folder.path().join("incidents")).unwrap();
    assert!(journal.flush(LONG));
    assert_eq!(journal.trouble(), None);
    let inside = folder.path().join("incidents").join(recovered.id.as_str());
    assert_eq!(fs::read(inside.join(folder::STACKS)).unwrap(), b"exec-s0\n");
    assert_eq!(on_disk(folder.path(), &recovered.id).timeline.len(), recovered.timeline.len() + 1);
}

#[test]
fn documents_are_not_for_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = start(folder.path(), 50, 1 << 20);
    let opened = incident(1, 0);
    journal.record(Arc::new(opened.clone()));
    assert!(journal.flush(LONG));
    let path = folder.path().join("incidents").join(opened.id.as_str());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
    assert_eq!(fs::metadata(path.join("incident.json")).unwrap().permissions().mode() & 0o007, 0);
}

#[test]
fn memory_holds_the_latest_fifty() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = start(folder.path(), 50, 1 << 20);
    for n in 0..60 {
        remember(&journal.latest, Arc::new(incident(n, n * 2)));
    }
    let latest = journal.latest();
    assert_eq!(latest.len(), IN_MEMORY);
    assert!(latest[0].id > latest[1].id);
}

#[test]
fn a_document_reads_as_the_contract_says() {
    let mut opened = incident(1, 0);
    opened = step(&opened, 40, &Step::Withheld(crate::verdict::Withheld::Observe));
    let value = serde_json::to_value(&opened).unwrap();
    let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    insta::assert_snapshot!(
        keys.join(" "),
        @"boot closed_at durations id last_words mode observations opened_at own_frames reason shard status target thread timeline trace tracer why"
    );
    assert_eq!(value["timeline"][3]["step"], "withheld");
    assert_eq!(value["timeline"][3]["detail"], "observe");
    assert_eq!(value["timeline"][2]["since_last_progress_ms"], 1.05);
    let at = value["timeline"][2]["at"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.split('.').nth(1).unwrap().len() == 7, "{at}");
}

#[test]
fn a_kill_is_remembered_when_its_incident_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = start(folder.path(), 1, 1 << 20);
    for number in 1..=3 {
        let killed = step(&incident(number, number), 10, &KILL);
        first.record(Arc::new(step(&killed, 10, &Step::Recovered { work_key: None })));
    }
    assert!(first.flush(LONG));
    drop(first);
    let (second, _) = start(folder.path(), 1, 1 << 20);
    assert_eq!(second.past(LONG).unwrap().0.ages.len(), 3);
    assert_eq!(fs::read_dir(folder.path().join("incidents")).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_known_of_earlier_kills_counts_as_spent() {
    let folder = tempfile::tempdir().unwrap();
    // A sidecar that ended between its verdict and the report of its signal.
    let (first, _) = start(folder.path(), 50, 1 << 20);
    first.record(Arc::new(incident(1, 0)));
    assert!(first.flush(LONG));
    assert_eq!(first.past(LONG).unwrap().0.ages.len(), 0, "as long as it lives it knows better");
    drop(first);
    for _ in 0..2 {
        let (next, _) = start(folder.path(), 50, 1 << 20);
        assert_eq!(next.past(LONG).unwrap().0.ages.len(), 1);
        assert!(next.flush(LONG));
    }
    fs::write(folder.path().join(kills::FILE), "{").unwrap();
    let (next, _) = start(folder.path(), 50, 1 << 20);
    let (past, _) = next.past(LONG).unwrap();
    let now = crate::clock::now();
    let mut budget = crate::act::budget::Budget::new(3, Duration::from_secs(600), &past, now);
    assert!(past.cut && budget.left(now) == 0, "{past:?}");
}

#[test]
fn a_pause_is_kept_until_it_is_taken_back_or_over() {
    let folder = tempfile::tempdir().unwrap();
    let since = crate::clock::now();
    let pause = |minutes: u64| {
        let until = since.plus(Duration::from_secs(60 * minutes));
        Arc::new(Pause { since, until, reason: "ticket".to_owned(), by: "uid 0".to_owned() })
    };
    let left = || {
        let (journal, _) = start(folder.path(), 50, 1 << 20);
        (journal.past(LONG).unwrap().1.map(|pause| pause.until), journal)
    };
    let (none, journal) = left();
    assert_eq!(none, None);
    drop(journal.keep_pause(Some(pause(1))));
    drop(journal.keep_pause(Some(pause(2))));
    // The first pause was replaced, so its end has no effect.
    journal.pause_over(pause(1));
    assert!(journal.flush(LONG));
    let (kept, journal) = left();
    let late = kept.unwrap().since(pause(2).until).max(pause(2).until.since(kept.unwrap()));
    assert!(late < Duration::from_secs(1), "{late:?}");
    drop(journal.keep_pause(None));
    assert!(journal.flush(LONG));
    assert_eq!(left().0, None);
    let (_, journal) = left();
    drop(journal.keep_pause(Some(pause(3))));
    journal.pause_over(pause(3));
    assert!(journal.flush(LONG));
    assert!(!folder.path().join(crate::incident::pause::FILE).exists());
}

/// A link in place of any file that is read or written here is not followed.
#[test]
fn no_planted_link_is_followed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (evidence, theirs) = (folder.path().join("evidence"), folder.path().join("theirs"));
    fs::create_dir(&evidence).unwrap();
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::write(&theirs, "kept").unwrap();
    for name in ["kills.json", "deaths.json", "pause.json"] {
        symlink(&theirs, evidence.join(name)).unwrap();
        symlink(&theirs, evidence.join(format!(".{name}.new"))).unwrap();
    }
    let (journal, _) = start(&evidence, 50, 1 << 20);
    assert_eq!(journal.past(LONG).unwrap().1, None);
    assert!(journal.past(LONG).unwrap().0.cut, "kills that nobody can know count as spent");
    let opened = incident(1, 0);
    let id = opened.id.clone();
    symlink(&theirs, evidence.join("incidents")).unwrap();
    journal.record(Arc::new(opened.clone()));
    assert!(journal.flush(LONG));
    assert!(journal.trouble().unwrap().contains("is a symbolic link"), "{:?}", journal.trouble());
    fs::remove_file(evidence.join("incidents")).unwrap();
    fs::create_dir(evidence.join("incidents")).unwrap();
    symlink(folder.path().join("other"), evidence.join("incidents").join(id.as_str())).unwrap();
    journal.record(Arc::new(opened.clone()));
    assert!(journal.flush(LONG));
    assert_eq!(fs::read_dir(folder.path().join("other")).unwrap().count(), 0);
    fs::remove_file(evidence.join("incidents").join(id.as_str())).unwrap();
    journal.record(Arc::new(step(&opened, 40, &KILL)));
    journal.remember(Deaths::default());
    assert!(journal.flush(LONG));
    assert_eq!(journal.trouble(), None);
    assert_eq!(on_disk(&evidence, &id).timeline.len(), 4);
    for name in ["kills.json", "deaths.json"] {
        assert!(fs::symlink_metadata(evidence.join(name)).unwrap().is_file(), "{name}");
    }
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "kept");
}

/// A folder that belongs to another user is neither read nor reported as an incident.
#[test]
fn a_document_of_somebody_else_is_no_incident() {
    let folder = tempfile::tempdir().unwrap();
    let opened = incident(1, 0);
    let (journal, _) = start(folder.path(), 50, 1 << 20);
    journal.record(Arc::new(opened.clone()));
    assert!(journal.flush(LONG));
    drop(journal);
    let document = folder.path().join("incidents").join(opened.id.as_str()).join("incident.json");
    fs::set_permissions(&document, fs::Permissions::from_mode(0o666)).unwrap();
    let (journal, _) = start(folder.path(), 50, 1 << 20);
    assert!(journal.flush(LONG));
    assert!(journal.latest().is_empty());
}
