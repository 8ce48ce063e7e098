//! Writes what fuzzing begins with: `cargo run --manifest-path executor/fuzz/Cargo.toml --bin seeds`.

mod harness;

use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, seeds) in [("messages", harness::message_seeds()), ("blocks", harness::block_seeds())] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
        println!("{} seeds in {}", seeds.len(), folder.display());
    }
    Ok(())
}
