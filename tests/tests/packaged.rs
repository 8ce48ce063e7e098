//! What users are given: the tarball, the Debian packages and the images are built, used as a user
//! would, and removed. They contain the static programs in `SHARD_SHIPPED`, or else those of the
//! dev profile, for which an image has no C library.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shard_tests::host::{Host, Release};
use shard_tests::image::{BY_HOSTS_FILE, BY_NAME_SERVER, BY_NOBODY, Image};
use shard_tests::pod::Pod;
use shard_tests::released::{SHIPPED, done, has, release, shipped};
use shard_tests::sidecar::Sidecar;
use shard_tests::{api, skip, wait};

const SHARD: &str = "shard-executor@0.service";
const WATCHDOG: &str = "shard-watchdog@0.service";

/// The tools that build everything but images.
const PACKERS: [(&str, &str); 3] = [("dh", "debhelper"), ("objcopy", "binutils"), ("git", "git")];

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Notes the test as skipped; in CI it fails.
fn skipped(test: &str, why: &str) {
    assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs this: {why}");
    skip::note(test, why);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The only file in `folder` whose name begins and ends like this.
#[track_caller]
fn file(folder: &Path, begins: &str, ends: &str) -> PathBuf {
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = all.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(begins) && name.ends_with(ends)
    });
    let first = found.next().unwrap_or_else(|| panic!("no {begins}*{ends}"));
    assert!(found.next().is_none(), "more than one {begins}*{ends}");
    first
}

#[test]
fn whoever_packs_twice_gets_the_same_bytes_and_a_tarball_that_is_whole() {
    let test = "whoever_packs_twice_gets_the_same_bytes_and_a_tarball_that_is_whole";
    if !has(test, &[PACKERS.as_slice(), &[("lintian", "lintian")]].concat()) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let kinds: &[&str] = if shipped().is_some() { &["tarball", "deb", "image"] } else { &["tarball", "deb"] };
    // A different temporary folder, time zone and language.
    let elsewhere = folder.path().join("a-temporary-folder-elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    release(&one, kinds, &[("TZ", "UTC"), ("LC_ALL", "C")]);
    let variables = [("TZ", "Asia/Kathmandu"), ("LC_ALL", "C.UTF-8"), ("TMPDIR", text(&elsewhere))];
    release(&other, kinds, &variables);
    let sums = |folder: &Path| fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    assert_eq!(sums(&one), sums(&other));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing is left where it worked");

    the_tarball_is_whole(&one, folder.path());
    // Errors and warnings; each deliberate violation has its reason beside the package.
    let packages = ["shard-watchdog_", "shard-executor_"].map(|name| file(&one, name, ".deb"));
    let arguments: Vec<&str> = ["--allow-root", "--fail-on", "error,warning"]
        .into_iter()
        .chain(packages.iter().map(|package| text(package)))
        .collect();
    let told = done("lintian", &arguments);
    assert!(told.is_empty() || shipped().is_none(), "{told}");
}

/// Unpacks it, and checks everything that is promised.
#[track_caller]
fn the_tarball_is_whole(out: &Path, folder: &Path) {
    let archive = file(out, "shard-watchdog-", "-linux.tar.gz");
    done("tar", &["--extract", "--file", text(&archive), "--directory", text(folder)]);
    let tree = folder.join(format!("shard-watchdog-{VERSION}-x86_64-linux"));
    done("sh", &["-c", "cd \"$1\" && sha256sum --check --quiet --strict SHA256SUMS", "sh", text(&tree)]);
    for program in ["shard-watchdog", "shard-executor"] {
        let told = done(text(&tree.join("bin").join(program)), &["--version"]);
        assert_eq!(told.trim(), format!("{program} {VERSION}"));
        let parts = fs::read_to_string(tree.join(format!("sbom/{program}.cdx.json"))).unwrap();
        let parts: Value = serde_json::from_str(&parts).unwrap();
        assert_eq!(parts["metadata"]["component"]["name"], program);
        let names: BTreeSet<_> =
            parts["components"].as_array().unwrap().iter().filter_map(|part| part["name"].as_str()).collect();
        // Present in both; what runs only on the build machine is in neither.
        assert!(names.contains("tokio") && names.contains("glibc"), "{names:?}");
        assert!(!names.contains("serde_derive") && !names.contains("cc"), "{names:?}");
        assert_eq!(names.contains("revm"), program == "shard-executor");
    }
    for promised in [
        "LICENSE",
        "README.md",
        "alerts/runbooks/ShardStalled.md",
        "alerts/shard-watchdog.rules.yml",
        "dashboards/grafana/shard.json",
        "docs/install.md",
        "licences.txt",
        "share/bash-completion/completions/shard-watchdog",
        "share/man/man1/shard-watchdog-run.1",
        "tests/faults/kill-thread",
        "watchdog/deploy/kubernetes/base/kustomization.yaml",
        "watchdog/deploy/systemd/units/shard-watchdog@.service",
        "watchdog/heartbeat/include/shard_heartbeat.h",
    ] {
        assert!(tree.join(promised).is_file(), "{promised}");
    }
    assert!(!tree.join("watchdog/deploy/release").exists(), "what packs is no part of it");
    let install = fs::read_to_string(tree.join("docs/install.md")).unwrap();
    let links = install.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    for link in links.filter(|link| !link.is_empty()) {
        assert!(tree.join("docs").join(link).exists(), "docs/install.md points at {link}");
    }
    // Which programs they belong to, in the order in which debuggers search.
    let debug = file(out, "shard-watchdog-", ".debug.tar.gz");
    let listed = done("tar", &["--list", "--file", text(&debug)]);
    let mut found = 0;
    for program in ["shard-watchdog", "shard-executor"] {
        let notes = done("readelf", &["--notes", text(&tree.join("bin").join(program))]);
        let id = notes.split("Build ID: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
        found += listed.matches(&format!("usr/lib/debug/.build-id/{}/{}.debug", &id[..2], &id[2..])).count();
    }
    assert_eq!(found, 2, "{listed}");
}

/// Everything that packages could leave: every path below these, except what systemd itself and
/// dpkg store.
fn paths(host: &Host) -> BTreeSet<String> {
    let listed = host.shell(
        "find /etc /usr /var /run \\( -path /run/systemd -o -path /run/log -o -path /var/lib/dpkg -o -path /var/log \
         -o -path /var/cache -o -path '/var/lib/systemd' \\) -prune -o -print",
    );
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn packages_are_installed_used_upgraded_and_removed() {
    let test = "packages_are_installed_used_upgraded_and_removed";
    if !has(test, &PACKERS) {
        return;
    }
    if let Some(why) = Host::impossible(Release::Machine) {
        return skipped(test, &why);
    }
    let folder = tempfile::tempdir().unwrap();
    let (now, next) = (folder.path().join("now"), folder.path().join("next"));
    release(&now, &["deb"], &[]);
    for package in ["shard-watchdog", "shard-executor"] {
        next_version(&file(&now, package, ".deb"), &next);
    }
    // They may depend on what this machine has installed.
    done("cp", &["--archive", "/var/lib/dpkg", text(folder.path())]);
    let host = Host::start(folder.path(), Release::Machine);
    // As on any machine whose units are enabled.
    let enabled = "/etc/systemd/system/multi-user.target.wants";
    let of_dpkg = folder.path().join("dpkg");
    host.shell(&format!(
        "rm -f /usr/sbin/policy-rc.d; cp -a '{}' /var/lib; mkdir {enabled}",
        of_dpkg.display()
    ));
    let before = paths(&host);

    // Installing starts nothing and creates the user.
    let install = |from: &Path| host.shell(&format!("dpkg --install {}/*.deb 2>&1", from.display()));
    install(&now);
    for unit in [SHARD, WATCHDOG, "shard-coordinator.service", "shards.target"] {
        assert_eq!(host.property(unit, "ActiveState"), "inactive", "{unit}");
        assert_eq!(host.property(unit, "LoadState"), "loaded", "{unit}");
    }
    assert_eq!(host.run("systemctl", &["is-enabled", "shards.target"]).status.code(), Some(1));
    assert_eq!(
        host.shell("stat -c '%U %G %a' /etc/shard-watchdog /run/shard"),
        "root shard 750\nshard shard 750\n"
    );
    assert_eq!(host.shell("dpkg --verify shard-watchdog shard-executor"), "");

    // For a user that is not in /etc/passwd this machine asks a shared library, which a static
    // program must not load.
    let config = "[target]\nshard = \"0\"\nheartbeat = \"/h\"\nuser = \"nobody-at-all\"\n";
    host.write("/root/wrong.toml", config);
    let checked = host.run("shard-watchdog", &["check", "--config", "/root/wrong.toml"]);
    let told = String::from_utf8_lossy(&checked.stderr) + String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(2), "{told}");
    assert!(told.contains("no user"), "{told}");
    host.shell("rm /root/wrong.toml");
    let demo = host.run("shard-watchdog", &["demo"]);
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stdout));

    let sidecar = use_shard(&host);
    let (shard, watchdog) = (host.main_pid(SHARD), host.main_pid(WATCHDOG));

    // An upgrade restarts the watchdog, which adopts its shard again. The shard notices nothing.
    install(&next);
    assert_ne!(host.main_pid(WATCHDOG), watchdog);
    assert_eq!(host.main_pid(SHARD), shard);
    sidecar.wait_for("healthy");
    assert_eq!(sidecar.told_incidents().len(), 1, "what was said is not forgotten");
    let installed = host.shell("dpkg-query --show --showformat '${Version}' shard-watchdog");
    assert_eq!(installed, format!("{VERSION}+next"));

    // When removed, the watchdog ends and its shard does not; what was written stays.
    host.shell("dpkg --remove shard-watchdog 2>&1");
    host.wait_for(WATCHDOG, "ActiveState", "inactive");
    assert_eq!(host.main_pid(SHARD), shard);
    host.shell("dpkg --remove shard-executor 2>&1");
    host.wait_for(SHARD, "ActiveState", "inactive");
    host.shell("test -f /etc/shard-watchdog/0.toml && test -d /var/lib/shard-watchdog/0/incidents");

    // When purged, nothing remains but what a person wrote and what the shard itself did, until the
    // next boot.
    host.shell("dpkg --purge shard-watchdog shard-executor 2>&1");
    let left: Vec<_> = paths(&host).difference(&before).cloned().collect();
    let expected = [
        "/etc/shard-executor",
        "/etc/shard-executor/0.env",
        "/etc/shard-watchdog",
        "/etc/shard-watchdog/0.toml",
        "/run/shard",
        // Of the script that was used.
        "/run/shard-faults",
    ];
    // Other programs of this machine create their folders in /run while the host is up.
    let ours = |path: &str| !path.starts_with("/run/") || path.contains("shard");
    let unexpected: Vec<_> = left
        .iter()
        .filter(|path| !expected.contains(&path.as_str()) && !path.starts_with("/run/shard/0.heartbeat"))
        .filter(|path| ours(path))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(left.iter().any(|path| path == "/etc/shard-watchdog/0.toml"));
}

/// The same package under the next version, in the folder `into`.
#[track_caller]
fn next_version(package: &Path, into: &Path) {
    let tree = into.join("tree");
    fs::create_dir_all(into).unwrap();
    done("dpkg-deb", &["--raw-extract", text(package), text(&tree)]);
    let control = tree.join("DEBIAN/control");
    let now = fs::read_to_string(&control).unwrap();
    let next = now.replace(&format!("\nVersion: {VERSION}\n"), &format!("\nVersion: {VERSION}+next\n"));
    assert_ne!(now, next);
    fs::write(&control, next).unwrap();
    done("dpkg-deb", &["-Zgzip", "-z1", "--root-owner-group", "--build", text(&tree), text(into)]);
    fs::remove_dir_all(&tree).unwrap();
}

/// Configures shard 0 from the examples in the packages, enables it and its watchdog, and has it
/// killed once.
fn use_shard(host: &Host) -> Sidecar {
    host.shell(
        "install -m 640 -g shard /usr/share/doc/shard-executor/examples/0.env /etc/shard-executor/\n\
         install -m 640 -g shard /usr/share/doc/shard-watchdog/examples/0.toml /etc/shard-watchdog/",
    );
    let (listen, metrics, http) = (api::free_address(), api::free_address(), api::free_address());
    let replace = |path: &str, with: &[(&str, &str)]| {
        let path = host.path(path);
        let mut text = fs::read_to_string(&path).unwrap();
        for (from, to) in with {
            assert!(text.contains(from), "{from} in {}", path.display());
            text = text.replace(from, to);
        }
        fs::write(&path, text).unwrap();
    };
    let ports = [("127.0.0.1:7001", &*listen.to_string()), ("127.0.0.1:9621", &*metrics.to_string())];
    replace("/etc/shard-executor/0.env", &ports);
    replace(
        "/etc/shard-watchdog/0.toml",
        &[("127.0.0.1:9611", &http.to_string()), ("\"observe\"", "\"enforce\"")],
    );
    host.shell("systemctl enable --now shards.target shard-watchdog@0 shard-executor@0 2>&1");
    let sidecar = Sidecar {
        config: host.path("/etc/shard-watchdog/0.toml"),
        http,
        evidence: host.path("/var/lib/shard-watchdog/0"),
        heartbeat: host.path("/run/shard/0.heartbeat"),
    };
    sidecar.wait_for("healthy");
    // With the scripts of the package.
    host.shell(
        "/usr/share/shard-watchdog/faults/kill-thread --pid \"$(systemctl show -P MainPID shard-executor@0)\" \
         --thread exec-s0",
    );
    host.wait_for(SHARD, "NRestarts", "1");
    wait::until("the incident", || (sidecar.told_incidents().len() == 1).then_some(()));
    sidecar.wait_for("healthy");
    sidecar
}

#[test]
fn an_image_runs_by_itself_finds_names_and_recovers() {
    let test = "an_image_runs_by_itself_finds_names_and_recovers";
    let tools =
        [("skopeo", "skopeo"), ("umoci", "umoci"), ("runc", "runc"), ("ip", "iproute2"), ("git", "git")];
    if !has(test, &tools) || !Pod::possible(test) {
        return;
    }
    if shipped().is_none() {
        let why = format!(
            "an image needs static programs: watchdog/deploy/release --only programs, then {SHIPPED}=FOLDER"
        );
        return skipped(test, &why);
    }
    let folder = tempfile::tempdir().unwrap();
    release(folder.path(), &["image"], &[]);
    let archive = |name: &str| folder.path().join(format!("{name}-{VERSION}.oci.tar"));
    let user = 10001;
    for (name, entry) in [
        ("shard-watchdog", "shard-watchdog"),
        ("shard-executor", "shard-executor"),
        ("shard-with-watchdog", "shard-watchdog"),
    ] {
        // Through both of its formats.
        let path = archive(name);
        let inspect = |format: &str| {
            let told = done("skopeo", &["inspect", "--config", &format!("{format}:{}", path.display())]);
            serde_json::from_str::<Value>(&told).unwrap()
        };
        let config = inspect("oci-archive");
        assert_eq!(config, inspect("docker-archive"), "{name}");
        assert_eq!(config["config"]["User"], format!("{user}:{user}"), "{name}");
        assert_eq!(config["config"]["Entrypoint"][0], format!("/usr/bin/{entry}"));
        let labels = &config["config"]["Labels"];
        assert_eq!(labels["org.opencontainers.image.version"], VERSION, "{labels}");
        assert_eq!(labels["org.opencontainers.image.title"], name, "{labels}");
        manifests_know(name, user);
    }

    let unpacked = folder.path().join("shard-with-watchdog");
    let image = Image::unpack(&archive("shard-with-watchdog"), VERSION, &unpacked);
    assert_eq!(image.config()["process"]["user"]["uid"], user);
    assert!(image.root().join("etc/ssl/certs/ca-certificates.crt").is_file());
    let said = |arguments: &[&str]| {
        let output = image.run(arguments);
        let both = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&both).into_owned())
    };
    // The image defines that user.
    let config = |user: &str| {
        format!(
            "[target]\nshard = \"0\"\nheartbeat = \"/h\"\nuser = \"{user}\"\n[[thread]]\nname = \"x\"\nstall_after = \"5s\"\n"
        )
    };
    for (user, code) in [("shard", 0), ("nobody-at-all", 2)] {
        fs::write(image.root().join("etc/shard-watchdog/0.toml"), config(user)).unwrap();
        let (ended, told) = said(&["check", "--config", "/etc/shard-watchdog/0.toml"]);
        assert_eq!(ended, Some(code), "{user}: {told}");
    }
    // One host for each way of resolving names; where its name is known, the error is about the
    // port.
    for (host, found) in [(BY_HOSTS_FILE, true), (BY_NAME_SERVER, true), (BY_NOBODY, false)] {
        let (ended, told) = said(&["status", "--url", &format!("http://{host}:1")]);
        assert_eq!(ended, Some(3), "{host}: {told}");
        assert_eq!(told.contains("refused"), found, "{host}: {told}");
    }
    let (ended, told) = said(&["demo"]);
    assert_eq!(ended, Some(0), "{told}");
    assert!(told.contains("recovered"), "{told}");
}

/// The manifests for Kubernetes name this image, and run it as its own user.
#[track_caller]
fn manifests_know(name: &str, user: u32) {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../watchdog/deploy/kubernetes");
    let read = |path: &str| fs::read_to_string(manifests.join(path)).unwrap();
    let everything = read("base/statefulset.yaml") + &read("overlays/one-container/kustomization.yaml");
    assert!(
        everything.contains(&format!("image: {name}\n")) || everything.contains(&format!("/{name}\n")),
        "{name}"
    );
    assert!(everything.contains(&format!("runAsUser: {user}\n")), "{user}");
}
