//! What the name of the kernel function in which a task sleeps (`wchan`) shows about its wait.
//!
//! Such names are specific to a kernel version and compiler: an inlined function is shown as its
//! caller, a renamed one by its new name, and some end in `.isra.0`, `.part.0` or `.constprop.0`.
//! So [`PLACES`] lists every name under which a wait was observed or that is in the source, and an
//! unlisted name shows only that the task waits.

use crate::observation::{TaskState, WaitChannel};

/// One kind of place in the kernel.
#[derive(Clone, Copy, Debug)]
struct Place {
    name: Name,
    means: Means,
    /// Where this name was observed, and where the function is in the kernel's source.
    #[cfg_attr(not(test), expect(dead_code, reason = "for whoever reads the table, and for its test"))]
    seen: &'static str,
}

/// How a name is recognised, ignoring what the compiler appends.
#[derive(Clone, Copy, Debug)]
enum Name {
    /// By the whole name.
    Is(&'static str),
    /// By a part of the name.
    Has(&'static str),
}

/// What it means if a task sleeps there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// The freezer holds it.
    Freezer,
    /// A signal or a tracer has stopped it, which state `T` or `t` shows. In `D`, the freezer of
    /// version 1 found it stopped.
    Stop,
    /// As [`Means::Stop`]; in `S`, the trap of the new freezer was inlined into its caller.
    StopOrTrap,
    /// It waits for a lock. As [`Means::Sleep`] regarding the freezer.
    Lock,
    /// It waits for a lock of this kind: in `S` for one of its own program, in `D` for one of the
    /// kernel.
    RtLock,
    /// It waits for a time, a message, a child or a signal, and a signal can wake it. So it is
    /// never in `D`, unless the freezer of version 1 found it there: since Linux 6.1, that changes
    /// the state but not the place.
    Sleep,
    /// It waits for another party to act, often in `D`: no device is slow.
    Answer,
    /// Its cgroup makes it wait for memory.
    Memory,
}

use Means::{Answer, Freezer, Lock, Memory, RtLock, Sleep, Stop, StopOrTrap};
use Name::{Has, Is};

const fn place(name: Name, means: Means, seen: &'static str) -> Place {
    Place { name, means, seen }
}

/// All known places. The first match applies.
const PLACES: &[Place] = &[
    place(Has("refrigerator"), Freezer, "every version: __refrigerator (kernel/freezer.c)"),
    place(Has("freezer"), Freezer, "5.2 on: do_freezer_trap (kernel/signal.c)"),
    place(Is("get_signal"), StopOrTrap, "6.18: do_freezer_trap inlined (kernel/signal.c)"),
    place(Is("do_signal_stop"), Stop, "6.1, 6.18 (kernel/signal.c)"),
    place(Is("ptrace_stop"), Stop, "6.1, 6.18 (kernel/signal.c)"),
    place(Is("do_jobctl_trap"), Stop, "source: stops of a seized task (kernel/signal.c)"),
    place(
        Has("mem_cgroup_handle_over_high"),
        Memory,
        "6.1, 6.12, 7.2: memory.high; __mem_cgroup_handle_over_high where its check is inlined (mm/memcontrol.c)",
    ),
    place(
        Has("mem_cgroup_oom_synchronize"),
        Memory,
        "6.18: version 1 with oom_kill_disable (mm/memcontrol-v1.c)",
    ),
    place(Has("rt_mutex"), RtLock, "6.12 to 7.2: rt_mutex_schedule (kernel/locking/rtmutex.c)"),
    place(
        Has("futex"),
        Lock,
        "6.18: futex_do_wait; 5.16 on: futex_wait_queue, futex_wait_multiple; before: futex_wait_queue_me; 6.1: futex_lock_pi, with \
         priority inheritance (kernel/futex)",
    ),
    place(Has("nanosleep"), Sleep, "6.18: hrtimer_nanosleep (kernel/time/hrtimer.c)"),
    place(
        Has("poll"),
        Sleep,
        "6.18: do_epoll_wait; before: ep_poll, do_sys_poll (fs/eventpoll.c, fs/select.c)",
    ),
    place(Has("select"), Sleep, "do_select (fs/select.c)"),
    place(Has("pipe_"), Sleep, "6.18: anon_pipe_read, anon_pipe_write; before: pipe_read (fs/pipe.c)"),
    place(Has("sk_wait"), Sleep, "sk_wait_data (net/core/sock.c)"),
    place(Has("skb_wait"), Sleep, "__skb_wait_for_more_packets (net/core/datagram.c)"),
    place(Has("unix_stream"), Sleep, "unix_stream_data_wait, unix_stream_read_generic (net/unix/af_unix.c)"),
    place(Has("accept"), Sleep, "inet_csk_accept (net/ipv4/inet_connection_sock.c)"),
    place(Has("do_wait"), Sleep, "do_wait (kernel/exit.c)"),
    place(Has("sigtimedwait"), Sleep, "do_sigtimedwait (kernel/signal.c)"),
    place(Has("sigsuspend"), Sleep, "sigsuspend (kernel/signal.c)"),
    place(Is("__do_sys_pause"), Sleep, "6.18 (kernel/signal.c)"),
    place(Has("eventfd"), Sleep, "eventfd_read (fs/eventfd.c)"),
    place(Has("io_cqring_wait"), Sleep, "6.12, 6.18 (io_uring/io_uring.c)"),
    place(Has("io_uring_enter"), Sleep, "6.1: __do_sys_io_uring_enter (io_uring/io_uring.c)"),
    place(
        Is("kernel_clone"),
        Answer,
        "6.1, 6.18: the parent of a vfork, whose child has not called exec (kernel/fork.c)",
    ),
    place(Is("_do_fork"), Answer, "source, before 5.10: the same (kernel/fork.c)"),
    place(Has("wait_for_vfork_done"), Answer, "source: the same, not inlined (kernel/fork.c)"),
    place(
        Has("fanotify"),
        Answer,
        "6.18: fanotify_handle_event; fanotify_get_response where that is not inlined (fs/notify/fanotify/fanotify.c)",
    ),
    place(Is("request_wait_answer"), Answer, "6.18: FUSE, a request that was sent (fs/fuse/dev.c)"),
    place(Has("fuse_"), Answer, "6.18: fuse_get_req, a file system that was not begun (fs/fuse)"),
    place(Is("handle_userfault"), Answer, "6.18: a page that another thread brings (mm/userfaultfd.c)"),
    place(Has("seccomp"), Answer, "6.18: seccomp_do_user_notification.isra.0 (kernel/seccomp.c)"),
    place(Has("wait_rcu_gp"), Answer, "6.12: __wait_rcu_gp (kernel/rcu/update.c)"),
    place(
        Has("synchronize_rcu"),
        Answer,
        "6.18: synchronize_rcu_normal; also _expedited, _tasks (kernel/rcu)",
    ),
    place(Has("synchronize_srcu"), Answer, "source: __synchronize_srcu (kernel/rcu/srcutree.c)"),
    place(Has("rcu_barrier"), Answer, "source (kernel/rcu/tree.c)"),
    place(Has("exp_funnel_lock"), Answer, "source: before an expedited grace period (kernel/rcu/tree_exp.h)"),
];

/// What a task in `state` waits for, by the text of its `wchan`. `None`: the kernel hides it, or
/// the task does not sleep.
pub fn meaning(text: &[u8], state: TaskState) -> Option<WaitChannel> {
    let name = std::str::from_utf8(text).ok()?.trim();
    // The compiler's suffix begins with a dot, which cannot occur in the name of a C function.
    let name = name.split('.').next().unwrap_or_default();
    if matches!(name, "" | "0") {
        return None;
    }
    let known = PLACES.iter().find(|place| match place.name {
        Is(whole) => name == whole,
        Has(part) => name.contains(part),
    });
    Some(known.map_or(WaitChannel::Other, |place| place.means.of(state)))
}

impl Means {
    const fn of(self, state: TaskState) -> WaitChannel {
        match (self, state) {
            (Freezer, _) | (Stop | StopOrTrap | Lock | Sleep, TaskState::DiskSleep) => WaitChannel::Frozen,
            (StopOrTrap, TaskState::Sleeping) => WaitChannel::Frozen,
            (RtLock, TaskState::DiskSleep) | (Answer, _) => WaitChannel::Answer,
            (Lock | RtLock, _) => WaitChannel::Futex,
            (Memory, _) => WaitChannel::Memory,
            (Stop | StopOrTrap | Sleep, _) => WaitChannel::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskState::{DiskSleep, Running, Sleeping, Stopped, Traced};
    use WaitChannel::{Frozen, Futex, Other};

    fn named(name: &str, state: TaskState) -> Option<WaitChannel> {
        meaning(name.as_bytes(), state)
    }

    #[test]
    fn the_freezer_is_known_by_its_own_places() {
        assert_eq!(named("__refrigerator", DiskSleep), Some(Frozen));
        assert_eq!(named("do_freezer_trap", Sleeping), Some(Frozen));
        assert_eq!(named("get_signal", Sleeping), Some(Frozen));
        assert_eq!(named("get_signal", Stopped), Some(Other));
    }

    #[test]
    fn who_can_be_woken_is_in_d_only_while_the_freezer_holds_it() {
        for place in ["hrtimer_nanosleep", "do_epoll_wait", "unix_stream_data_wait", "io_cqring_wait"] {
            assert_eq!(named(place, DiskSleep), Some(Frozen), "{place}");
            assert_eq!(named(place, Sleeping), Some(Other), "{place}");
        }
    }

    #[test]
    fn stopped_or_traced_and_then_frozen_is_frozen() {
        for place in ["do_signal_stop", "ptrace_stop", "do_jobctl_trap", "get_signal", "ptrace_stop.part.0"] {
            assert_eq!(named(place, DiskSleep), Some(Frozen), "{place}");
            // Their state shows it.
            assert_eq!(named(place, Stopped), Some(Other), "{place}");
            assert_eq!(named(place, Traced), Some(Other), "{place}");
        }
    }

    #[test]
    fn a_lock_is_known_on_every_kernel_with_priority_inheritance_or_without() {
        let locks = [
            "futex_wait_queue_me",
            "futex_wait_queue",
            "futex_do_wait",
            "futex_wait_multiple",
            "futex_lock_pi",
            "futex_lock_pi.isra.0",
            "rt_mutex_schedule",
        ];
        for lock in locks {
            assert_eq!(named(lock, Sleeping), Some(Futex), "{lock}");
        }
        // A lock of a real-time kernel itself.
        assert_eq!(named("rt_mutex_schedule", DiskSleep), Some(WaitChannel::Answer));
    }

    #[test]
    fn a_wait_for_somebody_elses_act_is_no_input_or_output() {
        let waits = [
            "kernel_clone",
            "_do_fork",
            "fanotify_handle_event",
            "fanotify_get_response",
            "request_wait_answer",
            "fuse_get_req",
            "handle_userfault",
            "seccomp_do_user_notification.isra.0",
            "__wait_rcu_gp",
            "synchronize_rcu_normal",
            "synchronize_rcu_expedited",
            "__synchronize_srcu.part.0",
            "rcu_barrier",
        ];
        for wait in waits {
            for state in [DiskSleep, Sleeping] {
                assert_eq!(named(wait, state), Some(WaitChannel::Answer), "{wait}");
            }
        }
    }

    #[test]
    fn a_cgroup_that_gives_no_memory_is_known() {
        let waits = [
            "mem_cgroup_handle_over_high",
            "__mem_cgroup_handle_over_high",
            "mem_cgroup_handle_over_high.part.0",
            "mem_cgroup_oom_synchronize",
        ];
        for wait in waits {
            assert_eq!(named(wait, DiskSleep), Some(WaitChannel::Memory), "{wait}");
        }
    }

    #[test]
    fn what_is_not_known_is_a_wait_and_what_is_hidden_is_nothing() {
        for disk in ["folio_wait_bit_common", "io_schedule", "jbd2_log_wait_commit", "kernel_clone_x"] {
            assert_eq!(named(disk, DiskSleep), Some(Other), "{disk}");
        }
        for hidden in ["", "0", " 0\n", ".isra.0"] {
            assert_eq!(named(hidden, DiskSleep), None, "{hidden:?}");
        }
        assert_eq!(meaning(b"\xff\xfe", Running), None);
    }

    #[test]
    fn every_place_says_where_it_is_known_from_and_is_reached() {
        for (index, place) in PLACES.iter().enumerate() {
            let (Is(name) | Has(name)) = place.name;
            assert!(
                place.seen.contains(".c)") || place.seen.contains("kernel/") || place.seen.contains("fs/"),
                "{name}"
            );
            let earlier = PLACES.iter().take(index).any(|before| match before.name {
                Is(whole) => name == whole,
                Has(part) => name.contains(part),
            });
            assert!(!earlier, "{name} stands behind one that takes all of its names");
        }
    }
}
