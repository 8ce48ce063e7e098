# `just` lists all recipes.
default:
    @just --list

# The main demonstration: a cluster, one lost thread, recovery.
demo *args:
    cargo build --release -p shard-watchdog -p shard-executor
    target/release/shard-watchdog demo {{ args }}

# Everything that CI checks, cheapest first.
check:
    bash .ci/run

# All tests.
test *args:
    bash tests/run-all {{ args }}

# The loom models of the heartbeat's writer protocol.
loom:
    RUSTFLAGS="--cfg loom" cargo test --release -p shard-heartbeat --test loom --target-dir target/loom

# Whole histories in virtual time against the judge: `just simulate --histories 10000000 --seed 7`.
simulate *args:
    cargo build --release -p shard-tests --bin simulate
    target/release/simulate {{ args }}

# Mutants of the judge, each of which its tests must detect (docs/judge.md); needs
# `cargo install cargo-mutants --locked`. For a change alone:
# `git diff main > change.diff && just mutants --in-diff change.diff`.
mutants *args:
    nice -n 15 cargo mutants -p shard-judge {{ args }}

# Micro-benchmarks of the heartbeat.
bench-heartbeat:
    cargo bench -p shard-heartbeat

# The extra cost of a message compared with a plain crossbeam channel, uncontended and contended.
bench-channel:
    cargo bench -p shard-heartbeat --features crossbeam --bench channel

# Times from fault to verdict, death, restart and the next verified block.
bench-detect *args:
    cargo build --release --workspace --bins
    target/release/bench-detect {{ args }}

# Known vulnerabilities of dependencies; needs the network.
advisories:
    cargo deny check advisories

# CPU, memory and threads of a sidecar at rest and beside a busy shard.
bench-footprint *args:
    cargo build --release --workspace --bins
    target/release/bench-footprint {{ args }}

# CPU of one scrape at 64 threads, beside prometheus-process-exporter where it is installed.
bench-scrape *args:
    cargo build --release --workspace --bins
    target/release/bench-scrape {{ args }}

# What a dump costs its target, beside gdb where it is installed.
bench-evidence *args:
    cargo build --release --workspace --bins
    target/release/bench-evidence {{ args }}

# Many at once: 64 shards with a sidecar each on this machine, and what their metrics cost
# Prometheus by the number of shards.
bench-scale *args:
    cargo build --release --workspace --bins
    target/release/bench-scale {{ args }}

# The sidecar compared with systemd, runit, s6, monit, supervisord, a kubelet-like probe and a guard
# dog: what each detects, and how soon.
bench-peers *args:
    cargo build --release --workspace --bins
    target/release/bench-peers {{ args }}

# The demo beside Prometheus, Alertmanager and a collector on loopback, until Ctrl-C; prints every
# address.
observe *args:
    bash tests/tools
    cargo build --release -p shard-watchdog -p shard-executor
    bash tests/observe {{ args }}

# Random faults over random blocks on a real cluster: `just soak --for 10m --seed 7`.
soak *args:
    cargo build --release --workspace --bins
    target/release/soak {{ args }}

# Shards that must survive load, between real stalls: `just control --for 1h --seed 7`.
control *args:
    cargo build --release --workspace --bins
    target/release/control {{ args }}

# Cost of one observation by number of threads, for probe and judge; and how long `replay` takes for
# an hour.
bench-judge *args:
    cargo build --release --workspace --bins
    target/release/bench-judge {{ args }}

# Fuzzes one parser of the sidecar with untrusted bytes for a minute: segment, config, recording,
# command or kept-file; needs nightly Rust and cargo-fuzz. Findings go into fuzz/corpus; inputs
# worth retaining belong into fuzz/kept.
fuzz-watchdog target="segment" seconds="60":
    WRITE_SEEDS=1 cargo test --workspace --test hostile_segment seeds
    cd watchdog/fuzz && mkdir -p corpus/{{ target }} kept/{{ target }} && \
        cargo +nightly fuzz run {{ target }} corpus/{{ target }} kept/{{ target }} -- -max_total_time={{ seconds }}

# The same for the executor: messages, blocks or orders.
fuzz-executor target="messages" seconds="60":
    WRITE_SEEDS=1 cargo test --workspace --test fuzzed seeds
    cd executor/fuzz && mkdir -p corpus/{{ target }} kept/{{ target }} && \
        cargo +nightly fuzz run {{ target }} corpus/{{ target }} kept/{{ target }} -- -max_total_time={{ seconds }}

# Mgas/s in order, on threads and over a cluster, on the same blocks.
bench-exec *args:
    cargo build --release --workspace --bins
    target/release/bench-exec {{ args }}

# Man pages and shell completions of both programs, laid out as /usr/share.
manuals dir:
    cargo run -p shard-tests --bin manuals -- {{ dir }}

# Tarball, Debian packages and images with static programs: `just release --only deb`; see `--help`.
release *args:
    watchdog/deploy/release {{ args }}

# Builds this commit twice, in two folders, and compares every byte.
reproduce:
    bash tests/tools
    watchdog/deploy/release --reproduce
