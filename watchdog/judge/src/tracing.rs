//! A tracer that stops a thread again and again, at each of its system calls (`strace`): ADR 030.
//!
//! Between two stops the thread runs, and the kernel charges it for the work of being stopped: a
//! step of one second of CPU time takes many seconds of it. How much is the tracer's no counter
//! tells. So while a tracer comes and goes the thread's CPU time counts for nothing. A tracer that
//! sits on it holds it, and one that lets it run is nowhere to be seen: neither changes anything
//! here.

/// Looks over which it is seen to come and go: 64 ms to 0.8 s.
const LOOKS: u32 = 16;
/// Changes between held and not held, of two looks one after the other, among them. A debugger that
/// stops a thread and lets it go makes two. One that stops it once a second, to take a sample,
/// makes as many in a second.
const CHANGES: u32 = 4;

/// At which of the last looks a tracer held the thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing(u16);

impl Tracing {
    /// One more look, which found it held by a tracer or not.
    pub fn look(&mut self, held: bool) {
        self.0 = self.0 << 1 | u16::from(held);
    }

    /// Whether a tracer comes and goes.
    pub const fn comes_and_goes(self) -> bool {
        // Each bit against the one before it; the oldest has none.
        let changes = (self.0 ^ self.0 >> 1) & (u16::MAX >> 1);
        changes.count_ones() >= CHANGES
    }
}

const _: () = assert!(LOOKS == u16::BITS, "one bit a look");

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    /// What is so after looks of which each was held (`t`) or not.
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
        assert!(after("RRttRRRttRR"), "two of them within a second");
    }

    #[test]
    fn it_is_forgotten_after_sixteen_looks() {
        let gone = |looks: usize| after(&format!("RtRtR{}", "R".repeat(looks)));
        assert!(gone(LOOKS as usize - 5) && !gone(LOOKS as usize));
    }
}
