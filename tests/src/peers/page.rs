//! The results as a page for people: `docs/comparison.md`.

use std::fmt::Write;

use serde_json::Value;

use super::fault::Times;
use super::peer::Peer;
use super::starved::HOGS;
use super::{Outcome, Plan, THRESHOLD};

/// Above this load, figures must not pass for those of a quiet machine: on average less than one
/// process that is not ours.
const QUIET: f64 = 0.5;

/// The head of the page.
const HEAD: &str = "\
<!-- Written by `bench-peers --markdown`: change tests/src/peers/page.rs, not this file. -->
# Comparison with today's process supervisors

One process with one working thread runs under each of these supervisors in turn. Its main thread
answers HTTP and notifies systemd regardless of the worker's state, as the main loops of most
services do. Three faults are injected: the worker is **lost** (it panics without a handler: its
thread ends, while the process lives and answers), the worker **stalls** (it sleeps forever in the
middle of its work), and the process is killed, which every supervisor detects.

Some supervisors can observe more if the target is changed. They have a second row, with a target that
reports the state of its worker. The sidecar belongs to those: it reads the heartbeat that the worker writes.

![From the fault until the target works again](images/comparison.svg)

";

/// What the figures do not show.
const NOTES: &str = "\
## Notes

- **Detected** is the time at which the process ended through the peer's action, measured for all peers
  with a pidfd. **Running again** is the end of the first piece of work after the restart, which the
  target itself logs. All figures are medians.
- The target has worked for 3 s before each fault, so that no peer's back-off applies. A kubelet's would from
  the second restart on (10 s, doubled up to 5 min).
- Runit and s6 restart a process that has ended, and promise no more. That is why the guard dog and many
  sidecars run under one of them.
- A check of the main loop reports on the main loop only. That is not a flaw of systemd, monit,
  supervisord or Kubernetes: each of them detects a lost or stalled worker as soon as the target reports
  it, and the second rows show how soon. With several workers the target must find out by itself
  which of them should have made progress, and an idle worker must continue to notify.
- The sidecar requires a change of the target too: the worker registers, and marks the beginning and end of
  each piece of work by plain stores to memory. It requires no timer, thread or decision in the
  target. The kernel reports a lost thread, not a missed beat: hence the time below the threshold.
- The guard dog is the closest alternative. It needs no other process, but shares the fate of its own: if the
  whole process is stopped or starved, so is the dog, and it cannot distinguish a starved worker from a
  stalled one. Envoy's has `miss_timeout`, `megamiss_timeout` and a choice of actions, of which only
  `kill_timeout` is rebuilt here.
- The probe is a few lines of this repository with the limits that Kubernetes documents. A real kubelet
  serves all pods of its node, so no cost is given. systemd runs on most machines anyway.
- monit compares timestamps in whole seconds, and checks once per cycle. Debian's config has cycles of 120 s.
- httpok runs at a tick of supervisord; the shortest is 5 s.
- Starved means: the target has the scheduling class `SCHED_IDLE` beside eight busy loops at normal
  priority. It is healthy and makes progress, one piece of work in a few seconds; pieces that took longer than
  the threshold are counted. Killing it loses the work in progress and cures nothing. A threshold that
  tolerates such times detects real stalls that much later. In a short run few pieces finish, so the
  absence of false kills means less.
- Costs: CPU and resident memory of all processes of a peer, without the target; shared pages are counted in
  each. For the guard dog it is the CPU of its thread alone.
- Core dumps are disabled. systemd and the dog end the process with SIGABRT, which leaves a core if they
  are enabled.

";

/// The whole page. `outcomes` were measured according to `plan`, on the machine that `figures`
/// describes.
pub fn markdown(outcomes: &[Outcome], figures: &Value, plan: Plan, load: f64) -> String {
    let mut page = HEAD.to_owned();
    faults(&mut page, outcomes);
    costs(&mut page, outcomes, plan);
    page.push_str(&ranking(outcomes));
    taken(&mut page, figures, plan, load);
    page.push_str(NOTES);
    settings(&mut page, outcomes, figures);
    page.push_str(
        "## Running it\n\n```sh\nbash tests/tools\ncargo build --release --workspace --bins\n\
         target/release/bench-peers --markdown docs/comparison.md --plot docs/images/comparison.svg\n```\n\n\
         Run it as root, for systemd; a peer that is not installed is named and left out. `--only ours,monit` \
         selects some of them, `--json FILE` is for scripts.\n",
    );
    page
}

fn row(page: &mut String, cells: &[String]) {
    writeln!(page, "| {} |", cells.join(" | ")).expect("a string");
}

fn heads(page: &mut String, names: &[&str]) {
    row(page, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
    row(page, &vec!["---".to_owned(); names.len()]);
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Times until detected and until running again, or that it was not detected.
fn times(times: &Times) -> String {
    if !times.seen() {
        return "not detected".to_owned();
    }
    format!("{} / {}", number(times.detect_p50(), 1), number(times.again_p50(), 0))
}

fn faults(page: &mut String, outcomes: &[Outcome]) {
    page.push_str("## Faults: detected / running again, ms after the fault\n\n");
    heads(page, &["", "sees the worker", "lost thread", "stall", "killed: running again"]);
    for outcome in outcomes.iter().filter(|outcome| outcome.peer.acts()) {
        let told = if outcome.peer.told_of_worker() { "yes" } else { "no" };
        let cells = [
            outcome.peer.title().to_owned(),
            told.to_owned(),
            times(&outcome.lost),
            times(&outcome.stall),
            number(outcome.dead.again_p50(), 0),
        ];
        row(page, &cells);
    }
    page.push('\n');
}

fn costs(page: &mut String, outcomes: &[Outcome], plan: Plan) {
    writeln!(
        page,
        "## A healthy target that is starved for {} s beside {HOGS} hogs, and cost at rest\n",
        plan.starve.as_secs()
    )
    .expect("a string");
    heads(
        page,
        &["", "false kills", "pieces finished late", "CPU, % of a core", "memory, MiB", "evidence kept"],
    );
    for outcome in outcomes {
        let count = |count: Option<usize>| count.map_or_else(|| "–".to_owned(), |count| count.to_string());
        let cells = [
            outcome.peer.title().to_owned(),
            count(outcome.starved.map(|starved| starved.false_kills)),
            count(outcome.starved.map(|starved| starved.slow_pieces)),
            number(outcome.cost.cpu_percent_of_core, 2),
            number(outcome.cost.rss_mib, 1),
            outcome.peer.evidence().to_owned(),
        ];
        row(page, &cells);
    }
    page.push('\n');
}

/// Milliseconds beyond the threshold until the target works again after a stall.
pub fn beyond_threshold(outcome: &Outcome) -> Option<f64> {
    Some(outcome.stall.again_p50()? - THRESHOLD.as_secs_f64() * 1e3)
}

/// The sidecar against the next best peer: that peer, its time beyond the threshold, and ours.
pub fn next_best(outcomes: &[Outcome]) -> Option<(Peer, f64, f64)> {
    let ours = outcomes.iter().find(|outcome| outcome.peer == Peer::Ours).and_then(beyond_threshold)?;
    let others = outcomes.iter().filter(|outcome| outcome.peer != Peer::Ours);
    let others = others.filter_map(|outcome| Some((outcome.peer, beyond_threshold(outcome)?)));
    let (peer, time) = others.min_by(|one, other| one.1.total_cmp(&other.1))?;
    Some((peer, time, ours))
}

fn ranking(outcomes: &[Outcome]) -> String {
    let alone: Vec<&str> = outcomes
        .iter()
        .filter(|outcome| outcome.lost.seen() && !outcome.peer.told_of_worker())
        .map(|outcome| outcome.peer.title())
        .collect();
    let mut text = String::new();
    if alone.is_empty() {
        text.push_str("Without reports of its state, no peer detects a lost worker. ");
    } else {
        write!(text, "Without reports of its state, these detect a lost worker: {}. ", alone.join(", "))
            .expect("a string");
    }
    if let Some((peer, time, ours)) = next_best(outcomes) {
        write!(
            text,
            "From a stall until the target works again, beyond the threshold of {} s: the sidecar {ours:.0} ms, the \
             next best ({}) {time:.0} ms.",
            THRESHOLD.as_secs(),
            peer.title()
        )
        .expect("a string");
    }
    text.push_str("\n\n");
    text
}

fn taken(page: &mut String, figures: &Value, plan: Plan, load: f64) {
    let machine = &figures["machine"];
    let said = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
    writeln!(page, "## When and where\n").expect("a string");
    writeln!(
        page,
        "{}, {} cores ({}), Linux {}; {} of each fault, costs over {} s. Load average before it began: {load:.2}{}",
        jiff::Zoned::now().date(),
        machine["cores"],
        said("cpu"),
        // The version alone: what follows it is the name that somebody gave to a build.
        said("kernel").split('-').next().unwrap_or_default(),
        plan.rounds,
        plan.rest.as_secs(),
        if load < QUIET {
            ", a quiet machine."
        } else {
            ", so **the machine was not quiet**: times are longer than necessary, for all peers, and the program should be \
             run again on a quiet one."
        }
    )
    .expect("a string");
    if let Some(left_out) = figures["left_out"].as_object().filter(|left_out| !left_out.is_empty()) {
        page.push_str("\nLeft out:\n");
        for (name, why) in left_out {
            writeln!(page, "- {name}: {}", why.as_str().unwrap_or_default()).expect("a string");
        }
    }
    page.push('\n');
}

fn settings(page: &mut String, outcomes: &[Outcome], figures: &Value) {
    page.push_str("## Settings\n\n");
    heads(page, &["", "version", "settings"]);
    for outcome in outcomes {
        let version = figures["peers"][outcome.peer.name()]["version"].as_str().unwrap_or_default();
        let version = if version.is_empty() { "a few lines of this repository" } else { version };
        let cells = [outcome.peer.title().to_owned(), version.to_owned(), outcome.peer.settings().to_owned()];
        row(page, &cells);
    }
    page.push('\n');
}
