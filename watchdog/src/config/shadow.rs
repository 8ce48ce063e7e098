//! `[shadow]`: a second policy, judged beside the live one. Settings that it omits are those of the
//! live policy.

use std::time::Duration;

use super::section::{Complaints, Section};
use super::{
    ChannelRule, JudgeConfig, KillConfig, KillMode, KillSignal, ShadowConfig, ThreadRule, sections, watched,
};

/// The live policy.
pub(super) struct Live<'a> {
    pub(super) threads: &'a [ThreadRule],
    pub(super) channels: &'a [ChannelRule],
    pub(super) judge: &'a JudgeConfig,
    pub(super) kill: &'a KillConfig,
}

pub(super) fn shadow(
    mut section: Section<'_>,
    live: &Live<'_>,
    complaints: &mut Complaints<'_>,
) -> ShadowConfig {
    let start = section.start();
    let threads = watched::threads(section.tables("thread", complaints), complaints);
    let channels = watched::channels(section.tables("channel", complaints), complaints);
    let judge = sections::judge(section.table("judge", complaints), live.judge.clone(), complaints);
    // It would kill as soon as it may, but has no process to kill.
    let mut kill = KillConfig {
        mode: KillMode::Enforce,
        signals: vec![(KillSignal::Kill, Duration::ZERO)],
        ..live.kill.clone()
    };
    if let Some(mut section) = section.table("kill", complaints) {
        sections::budget(&mut section, &mut kill, complaints);
        for key in ["mode", "signals"] {
            if let Some(value) = section.take(key) {
                let what = "a shadow never sends a signal: budget alone may stand here";
                complaints.add(&value.span(), &section.dotted(key), what);
            }
        }
        section.finish(complaints);
    }
    let says_something = ["thread", "channel", "judge", "kill"].iter().any(|key| section.was_there(key));
    if !says_something {
        let what = "says nothing, so it would be the live policy again; give it [[shadow.thread]], [[shadow.channel]], \
                    [shadow.judge] or [shadow.kill]";
        complaints.add_at(start, "shadow", what);
    }
    section.finish(complaints);
    ShadowConfig {
        threads: if threads.is_empty() { live.threads.to_vec() } else { threads },
        channels: if channels.is_empty() { live.channels.to_vec() } else { channels },
        judge,
        kill,
    }
}
