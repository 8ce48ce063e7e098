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
# Compared with what keeps processes running today

One process with one working thread, kept running by each of these in turn. Its main thread answers
HTTP and notifies systemd whatever becomes of the worker, as the main loops of most services do. Then
the worker is **lost** (it panics, and nobody catches it: the thread ends, the process lives and
answers), or it **stalls** (it sleeps in the middle of its work, for ever), and the process is
killed, which all of them see.

Some of these can be told more if the target is changed. They have a second row, with a target that
tells them of its worker. The sidecar belongs with those: it reads the heartbeat that the worker writes.

![From the fault until the target works again](images/comparison.svg)

";

/// What the figures do not show.
const NOTES: &str = "\
## Notes

- **Detected** is the moment at which the process ended by the peer's hand: a pidfd says so, the same
  way for all. **Running again** is the end of the first piece of work of its next life, which the
  target itself writes down. Medians.
- The target has worked for 3 s before each fault, so that nobody's back-off counts. A kubelet's would from
  the second restart on (10 s, doubled up to 5 min).
- Runit and s6 restart what has ended, and promise no more. That is why the guard dog and many a
  sidecar run under one of them.
- Whoever asks the main loop is told about the main loop. That is no fault of systemd, monit,
  supervisord or Kubernetes: each of them sees a lost or stalled worker as soon as the target says so,
  and the second rows show how soon. With several workers the target has to find out by itself
  which of them should have moved; an idle worker must go on notifying.
- The sidecar needs work in the target too: the worker registers, and marks where each piece of work begins
  and ends, by plain stores to memory. What it does not need is a timer, a thread or a decision in the
  target. A lost thread it learns from the kernel, not by a missed beat: hence the time below the threshold.
- The guard dog is the nearest. It needs no other process, and shares the fate of its own: where the whole
  process is stopped or starved, the dog is as well, and it cannot tell a starved worker from a stalled
  one. Envoy's has `miss_timeout`, `megamiss_timeout` and a choice of actions, of which only
  `kill_timeout` is rebuilt here.
- The probe is a few lines of ours with the bounds that Kubernetes documents; a real kubelet costs what it costs
  for all its pods, so no cost is given. systemd runs on most machines anyway.
- monit compares time stamps in whole seconds, and looks once in each cycle. Debian's config has cycles of 120 s.
- httpok is run by a tick of supervisord, of which 5 s is the shortest.
- Starved means: the target has the scheduling class `SCHED_IDLE` beside eight busy loops at normal
  priority. It is healthy and gets on, one piece of work in some seconds; those that took longer than the
  threshold are counted. Whoever ends it loses what it had begun, and cures nothing. A threshold that leaves
  room for such times sees real stalls as much later. In a short run few pieces come to their end, and no
  false kill says less.
- Costs: CPU and resident memory of all processes of a peer, without the target; shared pages are counted in
  each. The guard dog's is the thread's CPU alone.
- Cores are switched off. systemd and the dog end the process by SIGABRT, which leaves one where they
  are switched on.

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
         As root, for systemd; a peer that is not installed is named and left out. `--only ours,monit` for \
         some of them, `--json FILE` for scripts.\n",
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
        return "not seen".to_owned();
    }
    format!("{} / {}", number(times.detect_p50(), 1), number(times.again_p50(), 0))
}

fn faults(page: &mut String, outcomes: &[Outcome]) {
    page.push_str("## Faults: detected / running again, ms after the fault\n\n");
    heads(page, &["", "told of its worker", "lost thread", "stall", "killed: running again"]);
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
        text.push_str("Of those that are told nothing by the worker, none sees that it is lost. ");
    } else {
        write!(text, "Told nothing by the worker, these see that it is lost: {}. ", alone.join(", "))
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
            ", so **the machine was not quiet**: times are longer than they need be, for all of them, and the program is to be \
             run again on one that is."
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
