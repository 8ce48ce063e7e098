//! Sections of a piece of work, and what follows a stall by its kind: what a thread does, and what
//! its rule must make of it.

use std::time::Duration;

use shard_watchdog::config::{On, WorkSection};
use shard_watchdog::judge::policy::SectionLimits;
use shard_watchdog::judge::thread::KIND_SETTLES;
use shard_watchdog::observation::Claim;
use shard_watchdog::verdict::StallKind;

use super::plan::{Hang, Plan};
use super::thread::{Doing, Thread};
use super::watchdog::Watchdog;

/// The thresholds of one section.
pub fn limits((word, stall_after): (u64, Duration)) -> Option<SectionLimits> {
    let section = WorkSection::from_word(word)?;
    Some(SectionLimits { section, stall_after, warn_after: stall_after * 2 / 5 })
}

impl Thread {
    /// Enters a section of its work. `torn`: only its word is stored, and the progress that belongs
    /// to it comes before whatever it does next.
    pub fn enter(&mut self, section: u64, torn: bool) {
        if !self.working() || self.claim != Claim::Live || self.ended.is_some() {
            return;
        }
        let owed = std::mem::replace(&mut self.owes_beat, torn);
        let moves = self.section != section || !torn || owed;
        self.section = section;
        self.progress = self.progress.wrapping_add(u64::from(owed) + u64::from(!torn));
        if moves {
            self.account.progressed();
        }
    }

    /// The kind of stall that its hang is, if it hangs.
    pub const fn kind_of_hang(&self) -> Option<StallKind> {
        match self.doing {
            Doing::Hang(Hang::Deadlock) => Some(StallKind::Deadlock),
            Doing::Hang(Hang::Blocked | Hang::Answer) => Some(StallKind::Blocked),
            Doing::Hang(Hang::Livelock) => Some(StallKind::Livelock),
            Doing::Hang(Hang::Disk) => Some(StallKind::IoWait),
            _ => None,
        }
    }
}

impl Watchdog {
    /// The `stall_after` of the section that the thread is in, if its rule has one for it, else
    /// that of the rule.
    pub fn given(&self, thread: &Thread) -> Duration {
        let rule = &self.policy.rules[0];
        let own = rule.sections.iter().find(|own| own.section.word() == thread.section);
        own.map_or(rule.stall_after, |own| own.stall_after)
    }

    /// Whether a stall of that kind must kill.
    pub fn kills(&self, kind: StallKind) -> bool {
        let rule = &self.policy.rules[0];
        rule.by_kind.of(kind).unwrap_or(rule.on) == On::Kill
    }

    /// Whether a stall of the thread certainly kills. Where the rule tells kinds apart, that takes
    /// a thread that has hung in one way since its last progress, about which the kernel says all.
    pub fn surely_kills(&self, thread: &Thread, plan: &Plan) -> bool {
        let rule = &self.policy.rules[0];
        if rule.by_kind.is_empty() {
            return rule.on == On::Kill;
        }
        let told = plan.machine.wchan && plan.machine.schedstat && thread.pool.is_empty();
        let kind = thread.kind_of_hang().filter(|_| told && !thread.account.mixed);
        // What was only reported by the rules before a reload still is for a moment.
        let account = &thread.account;
        let settles = Duration::from_nanos(account.lag + account.longest) + KIND_SETTLES;
        let since = account.before_reload.map(|before| account.sure.saturating_sub(before));
        let settled = since.is_none_or(|since| Duration::from_nanos(since) >= settles);
        // Its first samples may show no kind yet.
        settled && kind.is_some_and(|kind| self.kills(kind)) && self.kills(StallKind::Unknown)
    }

    /// Whether the kind of the thread's stall is certainly one that is only reported.
    pub fn surely_reports(&self, thread: &Thread, plan: &Plan) -> bool {
        let told = plan.machine.wchan && plan.machine.schedstat && thread.pool.is_empty();
        let kind = thread.kind_of_hang().filter(|_| told && !thread.account.mixed);
        kind.is_some_and(|kind| !self.kills(kind))
    }
}
