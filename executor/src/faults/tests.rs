//! What is promised of arming; what the faults do is shown on real processes in `tests/cluster`.

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
