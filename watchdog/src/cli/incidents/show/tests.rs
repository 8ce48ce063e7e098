use super::*;

/// An incident as a sidecar wrote it, of a target whose names would move a terminal's cursor.
fn incident() -> Incident {
    let (_, document) = include_bytes!("../../../../fuzz/kept/kept_file/incident").split_first().unwrap();
    let mut incident: Incident = serde_json::from_slice(document).unwrap();
    if let Some(thread) = &mut incident.thread {
        thread.name = "exec\u{1b}[2J".to_owned();
    }
    incident.last_words = Some("panicked at 12\u{7}\nthe second line".to_owned());
    incident
}

fn shown(colour: bool) -> String {
    told(&incident(), "", "2026-11-29T06:12:29Z".parse().unwrap(), colour)
}

#[test]
fn it_begins_with_what_happened() {
    let text = shown(false);
    let head: Vec<_> = text.lines().take(10).collect();
    insta::assert_snapshot!(head.join("\n"), @r"
    incident 20261129T061028931Z-7834 of shard 0: recovered
      why     thread exec-s0 (tid 17326) ended while process 17275 lives on
      reason  thread_gone
      opened  2026-11-29T06:10:28.931Z (2 min ago)
      closed  2026-11-29T06:10:29.985Z
      thread  exec\u{1b}[2J, tid 17326
      work    12520364
      target  pid 17275, incarnation 1795932625108513
      mode    enforce
      trace   f73b8ac5936956b01f8ea341a7b66820
    ");
}

#[test]
fn it_has_every_step_and_what_the_process_said() {
    let text = shown(false);
    for step in &incident().timeline {
        assert!(text.contains(&format!("{:.6}", step.at)), "{}: {text}", step.step.label());
    }
    assert!(text.contains("\n  panicked at 12\\u{7}\n  the second line\n"), "{text}");
    assert!(text.contains("10.001 ms"), "{text}");
    assert!(text.contains("\n  it was at work on 12520364 (attempt 0)\n"), "{text}");
}

#[test]
fn only_the_status_is_coloured_and_nothing_foreign_reaches_the_terminal() {
    assert!(!shown(false).contains('\u{1b}'), "{}", shown(false));
    let coloured = shown(true);
    assert!(coloured.contains("\u{1b}[1;32mrecovered\u{1b}[0m"), "{coloured}");
    assert_eq!(coloured.matches('\u{1b}').count(), 2);
}

#[test]
fn times_have_as_many_digits_as_matter() {
    let of = |micros| exact(Duration::from_micros(micros));
    assert_eq!(
        [of(12), of(1_234), of(9_999_999), of(75_000_000)],
        ["12 us", "1.234 ms", "9999.999 ms", "1 min 15 s"]
    );
}

#[test]
fn the_stack_of_the_thread_at_fault_follows_the_reason() {
    let mut stacks =
        String::from("thread exec-s0 (tid 17326) is in spin\n\nthread main (tid 1)\n    0  wait\n");
    stacks.push_str(
        "\nthread exec-s0 (tid 17326), the one in question\n    0  spin\u{1b}[2J  at a.rs:1  (inlined)\n",
    );
    (1..20).for_each(|index| stacks.push_str(&format!("  {index:>3}  f{index}  in executor\n")));
    let stack = stack::told(&incident(), &stacks);
    let text = told(&incident(), &stack, "2026-11-29T06:12:29Z".parse().unwrap(), false);
    let head: Vec<_> = text.lines().skip(2).take(15).collect();
    insta::assert_snapshot!(head.join("\n"), @r"
      reason  thread_gone
      stack   spin\u{1b}[2J  at a.rs:1  (inlined)
              f1  in executor
              f2  in executor
              f3  in executor
              f4  in executor
              f5  in executor
              f6  in executor
              f7  in executor
              f8  in executor
              f9  in executor
              f10  in executor
              f11  in executor
              and 8 more in stacks.txt
      opened  2026-11-29T06:10:28.931Z (2 min ago)
    ");
    // The dump of a thread that is gone is about another one.
    assert_eq!(stack::told(&incident(), "\nthread main (tid 1), the one in question\n    0  wait\n"), "");
}
