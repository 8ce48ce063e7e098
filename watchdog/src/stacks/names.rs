//! Names of functions as they are in each build of a program.

/// What the compiler or the linker adds to a name, each with a number behind it or not.
const ADDED: [&str; 6] = [".llvm.", ".isra.", ".part.", ".constprop.", ".lto_priv.", ".cold"];
/// Hexadecimal digits of a hash of Rust's, at the end of a name or in brackets behind a crate's.
const HASH: usize = 16;

/// The name without hashes and numbers of the compiler. What is generic stays, and so does the
/// number of a closure: it changes only if the source does.
pub(super) fn in_each_build(name: &str) -> String {
    let mut name = without_brackets(name);
    while let Some(at) = ADDED.iter().filter_map(|added| name.rfind(added)).max() {
        let behind =
            name[at..].trim_start_matches(|c: char| c == '.' || c == '_' || c.is_ascii_alphanumeric());
        if !behind.is_empty() {
            break;
        }
        name.truncate(at);
    }
    if let Some((before, hash)) = name.rsplit_once("::h")
        && is_hash(hash)
    {
        name.truncate(before.len());
    }
    name
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Without `[0123456789abcdef]`.
fn without_brackets(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find('[') {
        let (before, bracket) = rest.split_at(at);
        plain.push_str(before);
        rest = match bracket[1..].split_once(']') {
            Some((hash, behind)) if is_hash(hash) => behind,
            _ => {
                plain.push('[');
                &bracket[1..]
            }
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_and_what_the_compiler_adds_are_left_out_and_nothing_else() {
        let names = [
            "executor::vm::run",
            "executor::vm::run::h0123456789abcdef",
            "executor[317d481089b8c8fe]::vm::run",
            "<executor[317d481089b8c8fe]::vm::Vm as core[0123456789abcdef]::ops::Drop>::drop",
            "executor::vm::run::{closure#0}",
            "sum::<[u8; 4]>",
            "<[u8]>::run.llvm.1234567890",
            "run.constprop.0.isra.0",
            "executor::h::hash.cold",
            "a.part.of<it>",
            "[[",
            "::h0123456789abcde",
        ];
        let all: Vec<String> =
            names.iter().map(|name| format!("{name}  ->  {}", in_each_build(name))).collect();
        insta::assert_snapshot!(all.join("\n"), @r"
        executor::vm::run  ->  executor::vm::run
        executor::vm::run::h0123456789abcdef  ->  executor::vm::run
        executor[317d481089b8c8fe]::vm::run  ->  executor::vm::run
        <executor[317d481089b8c8fe]::vm::Vm as core[0123456789abcdef]::ops::Drop>::drop  ->  <executor::vm::Vm as core::ops::Drop>::drop
        executor::vm::run::{closure#0}  ->  executor::vm::run::{closure#0}
        sum::<[u8; 4]>  ->  sum::<[u8; 4]>
        <[u8]>::run.llvm.1234567890  ->  <[u8]>::run
        run.constprop.0.isra.0  ->  run
        executor::h::hash.cold  ->  executor::h::hash
        a.part.of<it>  ->  a.part.of<it>
        [[  ->  [[
        ::h0123456789abcde  ->  ::h0123456789abcde
        ");
    }
}
