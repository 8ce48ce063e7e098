//! Detects a tracer that stops a thread again and again, at each of its system calls (`strace`):
//! ADR 030.
//!
//! Between two stops the thread runs, and the kernel charges it for the work of being stopped: a
//! step that needs one second of CPU time is charged many seconds. No counter tells how much of
//! that is the tracer's. So while a tracer comes and goes, the thread's CPU time does not count. A
//! tracer that holds the thread all the time is an excuse of its own, and one that lets it run is
//! not visible: neither matters here.

/// Number of observations considered: 0.25 to 3.2 s. On a busy machine the tracer itself waits for
/// a CPU now and then, and the thread is held, or not, at many observations in a row: over a
/// shorter time the tracer would seem to have gone, and the CPU time of that burst would count.
const LOOKS: u32 = 64;
/// Changes between held and not held, from one observation to the next, that count as coming and
/// going. A debugger that stops a thread and lets it go causes two. One that stops it once a second
/// for some milliseconds, to take a sample, is rarely observed at it twice.
const CHANGES: u32 = 4;

/// At which of the last observations a tracer held the thread, one bit each.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing(u64);

impl Tracing {
    /// Adds one observation: whether a tracer held the thread.
    pub fn look(&mut self, held: bool) {
        self.0 = self.0 << 1 | u64::from(held);
    }

    /// Whether a tracer comes and goes.
    pub const fn comes_and_goes(self) -> bool {
        // Compares each bit with the one before it; the oldest has none.
        let changes = (self.0 ^ self.0 >> 1) & (u64::MAX >> 1);
        changes.count_ones() >= CHANGES
    }
}

const _: () = assert!(LOOKS == u64::BITS, "one bit a look");

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    /// The result after observations at which the thread was held (`t`) or not.
    fn after(looks: &str) -> bool {
        let mut tracing = Tracing::default();
        looks.chars().for_each(|look| tracing.look(look == 't'));
        tracing.comes_and_goes()
    }

    #[test]
    fn one_that_stops_it_again_and_again_is_told_from_one_that_holds_it_or_lets_it_run() {
        assert!(after("RtRtR") && after("ttRttRRtRRR"));
        assert!(!after("") && !after("RRRRRRRR") && !after("tttttttttt"));
        assert!(!after("RRttttttRRRR"), "a breakpoint");
        assert!(after("RRttRRRttRR"), "two of them, one soon after the other");
    }

    #[test]
    fn a_burst_at_which_it_is_held_or_lets_run_does_not_hide_that_it_comes_and_goes() {
        for burst in ["R", "t"] {
            assert!(after(&format!("RtRtR{}", burst.repeat(40))), "{burst}");
        }
    }

    #[test]
    fn it_is_forgotten_after_sixty_four_looks() {
        let gone = |looks: usize| after(&format!("RtRtR{}", "R".repeat(looks)));
        assert!(gone(LOOKS as usize - 5) && !gone(LOOKS as usize));
    }
}
