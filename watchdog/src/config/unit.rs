//! Names of systemd units, as systemctl(1) takes them: `shard-0` is `shard-0.service`.

/// The longest name of a unit, `UNIT_NAME_MAX` of systemd.
const LONGEST: usize = 255;

/// Suffixes of units that contain processes.
pub const SUFFIXES: [&str; 6] = [".service", ".scope", ".slice", ".socket", ".mount", ".swap"];

/// Suffixes of units that never contain processes.
const WITHOUT_PROCESSES: [&str; 5] = [".target", ".timer", ".path", ".device", ".automount"];

/// The full name of the unit that `name` denotes.
///
/// # Errors
/// What is wrong with `name`.
pub fn complete(name: &str) -> Result<String, String> {
    let of_kind = |ends: &[&'static str]| ends.iter().copied().find(|end| name.ends_with(end));
    if let Some(end) = of_kind(&WITHOUT_PROCESSES) {
        return Err(format!("no process runs in a unit of kind {end}: name the service"));
    }
    let (whole, end) = match of_kind(&SUFFIXES) {
        Some(end) => (name.to_owned(), end),
        None => (format!("{name}.service"), ".service"),
    };
    let stem = whole.strip_suffix(end).unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if stem.is_empty() || stem.starts_with('@') {
        return Err("a unit has a name before its ending, such as \"shard-0.service\"".to_owned());
    }
    if let Some(odd) = stem.chars().find(|c| !allowed(*c)) {
        return Err(format!(
            "{odd:?} is in no unit's name: ASCII letters, digits and : - _ . \\ @ are (systemd-escape writes others)"
        ));
    }
    if whole.len() > LONGEST {
        return Err(format!("a unit's name has at most {LONGEST} bytes"));
    }
    if stem.ends_with('@') {
        return Err(format!("a template runs nothing: name an instance, such as \"{stem}0{end}\""));
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_an_ending_is_a_service() {
        for (name, whole) in [
            ("shard-0", "shard-0.service"),
            ("shard-0.service", "shard-0.service"),
            ("shard@0", "shard@0.service"),
            ("shard@0.service", "shard@0.service"),
            ("run-u5.scope", "run-u5.scope"),
            ("shards.slice", "shards.slice"),
            ("v1.2", "v1.2.service"),
            ("a\\x2db:c_d", "a\\x2db:c_d.service"),
            ("shard@a@b", "shard@a@b.service"),
        ] {
            assert_eq!(complete(name).as_deref(), Ok(whole), "{name}");
        }
    }

    #[test]
    fn what_is_no_unit_with_processes_is_refused_with_a_reason() {
        let long = "a".repeat(248);
        for (name, why) in [
            ("", "before its ending"),
            (".service", "before its ending"),
            ("@0.service", "before its ending"),
            ("shard 0", "' '"),
            ("шард", "'ш'"),
            ("/run/shard", "'/'"),
            ("shard*", "'*'"),
            ("shard@", "\"shard@0.service\""),
            ("shard@.service", "\"shard@0.service\""),
            ("shards.target", "no process"),
            ("shard.timer", "no process"),
            (&long, "255"),
        ] {
            let told = complete(name).unwrap_err();
            assert!(told.contains(why), "{name}: {told}");
        }
        assert!(complete(&"a".repeat(247)).is_ok());
    }
}
