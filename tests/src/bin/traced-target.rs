//! A watched process of the harness: see `shard_tests::collector::TracedTarget`.

use shard_tests::collector::TracedTarget;

fn main() {
    let mut arguments = std::env::args_os().skip(1).map(Into::into);
    let (Some(folder), Some(heartbeat)) = (arguments.next(), arguments.next()) else {
        eprintln!("traced-target FOLDER HEARTBEAT");
        std::process::exit(2);
    };
    TracedTarget::new(folder, heartbeat).run();
}
