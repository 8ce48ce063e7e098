//! What arming promises; the effects of the faults are shown on real processes in `tests/cluster`.

use std::time::Duration;

use super::*;

fn inert(role: Role) -> Faults {
    Faults::inert(role, crossbeam_channel::bounded(1).0)
}

fn armed(kind: Kind, after: u64, block: Option<u64>) -> (Faults, LastWords) {
    let role = kind.only_in().unwrap_or(Role::Shard);
    let faults = inert(role);
    faults.obey(Order::Arm(Armed { kind, after, block })).expect("armed");
    (faults, LastWords::default())
}

#[test]
fn a_fault_lets_the_ordered_number_of_transactions_through() {
    let (faults, mut words) = armed(Kind::Exit, 2, None);
    assert_eq!(faults.point(1, 1, None, &mut words), Ok(()));
    assert_eq!(faults.point(1, 1, None, &mut words), Ok(()));
    assert_eq!(faults.point(1, 1, None, &mut words), Err(ThreadMustEnd));
    assert_eq!(faults.point(1, 1, None, &mut words), Ok(()), "it happens once");
}

#[test]
fn a_fault_for_one_block_leaves_others_alone() {
    let (faults, mut words) = armed(Kind::Exit, 0, Some(7));
    assert_eq!(faults.point(6, 1, None, &mut words), Ok(()));
    assert_eq!(faults.point(7, 1, None, &mut words), Err(ThreadMustEnd));
}

#[test]
fn what_is_disarmed_does_not_happen() {
    let (faults, mut words) = armed(Kind::Exit, 0, None);
    faults.obey(Order::Disarm).expect("disarmed");
    assert_eq!(faults.point(1, 1, None, &mut words), Ok(()));
    assert_eq!(faults.obey(Order::List).expect("listed"), "ok: hook on; guard on; armed: none");
}

#[test]
fn a_fault_waits_for_its_own_point() {
    let (faults, mut words) = armed(Kind::DropResult, 1, Some(7));
    assert_eq!(faults.point(7, 9, None, &mut words), Ok(()));
    assert_eq!(faults.send_point(&mut words), Ok(()));
    assert_eq!(faults.answer_point(6), None);
    assert_eq!(faults.answer_point(7), None, "one is let through");
    assert_eq!(faults.answer_point(7), Some(AnswerFault::Drop));
    assert_eq!(faults.answer_point(7), None);
}

#[test]
fn as_many_state_requests_are_muted_as_was_ordered() {
    let (faults, _) = armed(Kind::MuteState(2), 0, None);
    assert_eq!([1, 2, 3].map(|block| faults.mutes_state(block)), [true, true, false]);
    let (faults, _) = armed(Kind::MuteState(u64::MAX), 0, None);
    assert!((0..50).all(|block| faults.mutes_state(block)), "all means all");
}

#[test]
fn the_hook_takes_the_guard_with_it_and_not_the_other_way_round() {
    let faults = inert(Role::Shard);
    let both = || (faults.panic_ends_process(), faults.thread_loss_ends_process());
    for (order, after) in [
        ("guard off", (true, false)),
        ("hook on", (true, true)),
        ("hook off", (false, false)),
        ("guard on", (false, true)),
    ] {
        faults.obey(order.parse().expect(order)).expect(order);
        assert_eq!(both(), after, "{order}");
    }
}

#[test]
fn a_fault_of_the_other_process_is_refused_instead_of_never_happening() {
    for (role, kind) in [(Role::Shard, "drop-part"), (Role::Coordinator, "deaf")] {
        let order: Order = format!("arm {kind}").parse().expect(kind);
        let error = inert(role).obey(order).expect_err(kind).to_string();
        assert!(error.contains(kind) && error.contains(&role.to_string()), "{error}");
    }
}

#[test]
fn counters_are_told_as_the_process_gives_them() {
    let faults = inert(Role::Shard);
    assert_eq!(faults.obey(Order::Counters).expect("told"), "ok: ");
    faults.tell_counters(|| "stale=3".to_owned());
    assert_eq!(faults.obey(Order::Counters).expect("told"), "ok: stale=3");
}

#[test]
fn what_lasts_keeps_nothing_else_from_its_turn() {
    let (faults, mut words) = armed(Kind::Slow(Duration::ZERO), 0, None);
    faults.obey(Order::Arm(Armed { kind: Kind::Exit, after: 1, block: None })).expect("armed");
    assert_eq!(faults.point(1, 1, None, &mut words), Ok(()), "slow, and one let through");
    assert_eq!(faults.point(1, 1, None, &mut words), Err(ThreadMustEnd));
    assert_eq!(faults.point(1, 1, None, &mut words), Ok(()), "still slow");
}

#[test]
fn who_spins_or_waits_for_a_lock_goes_on_once_it_is_disarmed() {
    for kind in [Kind::Spin, Kind::Deadlock] {
        let (faults, mut words) = armed(kind, 0, None);
        let of_thread = faults.clone();
        let (back, comes_back) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || {
            let _ = of_thread.point(1, 1, None, &mut words);
            let _ = back.try_send(());
        });
        let struck = format!("ok: struck: {kind} at_monotonic_ns=");
        while !faults.obey(Order::Struck).expect("told").starts_with(&struck) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(comes_back.try_recv().is_err(), "{kind}");
        faults.obey(Order::Disarm).expect("disarmed");
        assert!(comes_back.recv_timeout(Duration::from_secs(60)).is_ok(), "{kind}");
    }
}

#[test]
fn only_so_many_strikes_are_remembered() {
    let faults = inert(Role::Shard);
    assert_eq!(faults.obey(Order::Struck).expect("told"), "ok: struck: none");
    for _ in 0..MAX_STRUCK + 1 {
        faults.obey("arm ghost".parse().expect("an order")).expect("armed");
        assert_eq!(faults.answer_point(1), Some(AnswerFault::Ghost));
    }
    let told = faults.obey(Order::Struck).expect("told");
    assert_eq!(told.matches("ghost at_monotonic_ns=").count(), MAX_STRUCK, "{told}");
}

/// The rows of the tables of orders in `docs/executor.md`, cell by cell.
fn documented() -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/executor.md");
    let page = std::fs::read_to_string(path).expect(path);
    let (_, section) = page.split_once("\n## Orders of the fault port\n").expect("the section on orders");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// The code spans in a cell.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_order_is_documented_with_its_answer() {
    let rows = documented();
    let orders = rows.iter().filter(|row| row.len() == 3);
    let mut words = Vec::new();
    for row in orders {
        let order = code(&row[0])[0];
        words.push(order.split(' ').next().unwrap_or_default().to_owned());
        let answer = code(&row[2])[0];
        if order.starts_with("arm ") {
            assert_eq!(answer, "ok");
            continue;
        }
        let told = inert(Role::Shard).obey(order.parse().expect(order)).expect(order);
        match answer.strip_suffix(" …") {
            // The counts depend on the process.
            Some(_) => assert!(order == "counters" && told.starts_with("ok: "), "{order}: {told}"),
            None => assert_eq!(told, answer, "{order}"),
        }
    }
    words.sort();
    assert_eq!(words, ["arm", "counters", "disarm", "guard", "hook", "list", "struck", "tied"]);
    // The error that lists the orders is the code's own list.
    let told = OrderError::Unknown(String::new()).to_string();
    assert!(words.iter().all(|word| told.contains(word.as_str())), "{told}");
}

#[test]
fn every_kind_is_documented_with_an_example_and_where_it_may_be_armed() {
    let rows = documented();
    let kinds: Vec<_> = rows.iter().filter(|row| row.len() == 4).collect();
    let mut names: Vec<&str> = Vec::new();
    for row in &kinds {
        let Ok(Order::Arm(armed)) = code(&row[3])[0].parse() else { panic!("{row:?}") };
        for (at, form) in code(&row[0]).into_iter().enumerate() {
            let word = form.split(' ').next().unwrap_or_default();
            // The second word is a synonym of the first.
            assert!(at > 0 || word == armed.kind.name(), "{row:?}");
            let again = format!(
                "arm {}",
                code(&row[3])[0].trim_start_matches("arm ").replacen(armed.kind.name(), word, 1)
            );
            assert_eq!(again.parse(), Ok(Order::Arm(armed)), "{row:?}");
        }
        let place = match armed.kind.only_in() {
            None => "both".to_owned(),
            Some(role) => role.to_string(),
        };
        assert_eq!(row[1], place, "{row:?}");
        names.push(armed.kind.name());
    }
    assert!(order::PLAIN.iter().all(|kind| names.contains(&kind.name())), "{names:?}");
    let told = OrderError::Unknown(String::new()).to_string();
    let (_, all) = told.split_once("with KIND ").expect("the kinds");
    let all = all.split(';').next().unwrap_or_default();
    let told: Vec<&str> = all.split([',', '|']).filter_map(|one| one.rsplit("also ").next()).collect();
    let mut told: Vec<&str> = told.iter().filter_map(|one| one.trim().split(' ').next()).collect();
    names.sort_unstable();
    told.sort_unstable();
    assert_eq!(names, told, "docs/executor.md against the code's own list");
}
