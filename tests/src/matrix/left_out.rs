//! What docs/failure-modes.md and the list of faults contain but the matrix does not, each with the
//! reason.

/// A row that is not in the matrix.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// Row number in docs/failure-modes.md; `-` if it has none.
    pub number: &'static str,
    /// How its description begins.
    pub what: &'static str,
    /// The reason, and where it is shown instead.
    pub why: &'static str,
}

const fn left_out(number: &'static str, what: &'static str, why: &'static str) -> LeftOut {
    LeftOut { number, what, why }
}

/// Rows whose feature does not exist yet: named in every report, and neither passed nor failed.
pub const NOT_BUILT: &[LeftOut] = &[];

/// Rows shown by other means than a run of the matrix.
pub const LEFT_OUT: &[LeftOut] = &[
    left_out(
        "67",
        "a machine twenty times slower",
        "it takes another kernel or an emulator: tests/tests/kernels.rs, docs/kernels.md",
    ),
    left_out(
        "-",
        "the hypervisor takes the CPU",
        "it takes a host that one may overload: judge/tests/steal.rs, histories, simulation, probe/steal.rs",
    ),
    left_out("-", "a person debugs a shard", "no fault but a command: tests/tests/hand.rs"),
    left_out(
        "-",
        "a second coordinator is started on the same shards",
        "of the executor alone: its second.rs",
    ),
    left_out("-", "threads that register", "no cluster can churn so fast: churn.rs has a process that does"),
    left_out("-", "whoever reaches a shard's port says anything", "of the executor alone: its garbage.rs"),
    left_out(
        "-",
        "a stranger reaches a shard's port",
        "of the executor alone: its admission.rs, fault_port.rs",
    ),
    left_out("-", "strangers hold every connection", "of the executor alone: its garbage.rs, places.rs"),
    left_out(
        "-",
        "a pipe, a device or a bomb as a block file",
        "of the executor alone: its bad_input.rs, text.rs",
    ),
    left_out(
        "-",
        "after adoption the target runs another program",
        "many ways, by themselves: tests/tests/proven.rs",
    ),
    left_out("-", "a segment that others may write", "many ways, by themselves: tests/tests/proven.rs"),
    left_out(
        "-",
        "a port or the path of the socket is taken",
        "a start, not a fault: tests/tests/bad_input.rs",
    ),
    left_out(
        "-",
        "the target, another user than the sidecar",
        "who owns what, not a fault: tests/tests/folders.rs",
    ),
    left_out("-", "a hundred idle connections", "of the sidecar's HTTP alone: its http/tests.rs"),
    left_out("-", "the watch loop stands still", "it takes systemd as PID 1: tests/tests/deployed.rs"),
    left_out(
        "-",
        "a shard outlives SIGKILL, and systemd",
        "it takes systemd as PID 1: tests/tests/deployed.rs",
    ),
    left_out("-", "systemd gives a shard up", "it takes systemd as PID 1: tests/tests/deployed.rs"),
    left_out("-", "`systemctl freeze` of a shard", "it takes systemd as PID 1: tests/tests/deployed.rs"),
    left_out(
        "-",
        "a sidecar is replaced by a new version",
        "by systemd: tests/tests/deployed.rs; here: watchdog/upgraded",
    ),
    left_out(
        "-",
        "the kernel, or a container's profile",
        "it takes a seccomp filter: tests/tests/lacking.rs",
    ),
];
