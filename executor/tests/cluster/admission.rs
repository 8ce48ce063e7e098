//! Who may give a shard work, and how both ends report a refusal.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::blocks::{self, Chain};
use crate::certificates::Authority;
use crate::process::{Process, Shard, assert_verified, coordinator_with, depth, received, wait_until};

const TOKEN: &str = "c2hhcmQtZXhlY3V0b3It";

/// Starts a shard with these flags besides the usual ones.
fn shard(folder: &Path, flags: &[String]) -> Shard {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    Shard::start_with(folder, 0, anywhere, |shard| {
        shard.args(flags);
    })
}

fn coordinator(shard: &Shard, chain: &Chain, flags: &[String]) -> Process {
    coordinator_with(&[shard], &chain.path, &["--block-deadline", "60s"], |coordinator| {
        coordinator.args(flags);
    })
}

fn flag(name: &str, path: &Path) -> Vec<String> {
    vec![name.to_owned(), path.to_str().unwrap().to_owned()]
}

fn token(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let new = folder.join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, &path).unwrap();
    path
}

fn assert_executes(coordinator: &mut Process, chain: &Chain) {
    assert_eq!(coordinator.wait(), 0, "{}", coordinator.rest().1);
    assert_eq!(assert_verified(&coordinator.rest().0, chain), chain.digests.len());
}

/// Asserts that each coordinator gives up in the end, with these words; all of them at once,
/// because that takes a while.
fn assert_refused(mut coordinators: Vec<(Process, &[&str])>) {
    for (coordinator, words) in &mut coordinators {
        assert_eq!(coordinator.wait(), 3, "{words:?}");
        let said = coordinator.rest().1;
        for word in *words {
            assert!(said.contains(word), "{word:?} is not in: {said}");
        }
        assert!(said.contains("no shard could be reached"), "{said}");
    }
}

#[test]
fn an_address_that_others_can_reach_asks_for_a_certificate_or_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let heartbeat = folder.path().join("0.heartbeat");
    let heartbeat = heartbeat.to_str().unwrap();
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let mut shard = Process::start(&["shard", "--id", "0", "--listen", listen, "--heartbeat", heartbeat]);
        assert_eq!(shard.wait(), 2);
        let (lines, said) = shard.rest();
        for option in [listen, "--tls-client-ca", "--token-file", "--insecure"] {
            assert!(said.contains(option), "{option:?} is not in: {said}");
        }
        assert!(lines.is_empty(), "it has not listened: {lines:?}");
    }
    assert!(!Path::new(heartbeat).exists());
}

#[test]
fn files_that_cannot_be_used_are_told_and_nothing_starts() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(1, 1));
    let at = folder.path();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let authority = ours.write(at, "ca.pem");
    let (one, other) = (ours.sign(at, "one", "127.0.0.1"), theirs.sign(at, "other", "127.0.0.1"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mixed =
        vec!["--tls-cert".to_owned(), text(&one.certificate), "--tls-key".to_owned(), text(&other.key)];
    let no_key =
        vec!["--tls-cert".to_owned(), text(&one.certificate), "--tls-key".to_owned(), text(&authority)];
    let open = at.join("open");
    std::fs::write(&open, TOKEN).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let heartbeat = flag("--heartbeat", &at.join("0.heartbeat"));
    let common = ["shard", "--id", "0", "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
    let blocks = flag("--blocks", &chain.path);
    let of_coordinator = ["coordinator", "--shards", "127.0.0.1:1"].map(str::to_owned).to_vec();
    for (arguments, word) in [
        ([&common[..], &heartbeat, &mixed].concat(), "belong together"),
        ([&common[..], &heartbeat, &no_key].concat(), "holds no private key"),
        ([&common[..], &heartbeat, &flag("--tls-client-ca", &authority)].concat(), "--tls-cert"),
        ([&common[..], &heartbeat, &flag("--tls-cert", &one.certificate)].concat(), "--tls-key"),
        ([&common[..], &heartbeat, &flag("--token-file", &open)].concat(), "chmod 600"),
        ([&common[..], &heartbeat, &flag("--token-file", Path::new("/dev/zero"))].concat(), "it is a device"),
        ([&of_coordinator[..], &blocks, &flag("--tls-ca", &one.key)].concat(), "holds no certificate"),
        ([&of_coordinator[..], &blocks, &one.arguments()].concat(), "--tls-ca"),
        ([&of_coordinator[..], &blocks, &flag("--token-file", &at.join("absent"))].concat(), "No such file"),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut process = Process::start(&arguments);
        assert_eq!(process.wait(), 2, "{arguments:?}");
        let said = process.rest().1;
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

#[test]
fn a_token_lets_in_who_knows_it_and_the_health_is_for_everybody() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(2, 20));
    let at = folder.path();
    let right = token(at, "right", TOKEN);
    let wrong = token(at, "wrong", "another token of a good length".replace(' ', "-").as_str());
    let shard = shard(at, &flag("--token-file", &right));
    assert_executes(&mut coordinator(&shard, &chain, &flag("--token-file", &right)), &chain);
    assert_refused(vec![
        (coordinator(&shard, &chain, &[]), &["Unauthenticated", "give the coordinator --token-file"]),
        (
            coordinator(&shard, &chain, &flag("--token-file", &wrong)),
            &["Unauthenticated", "the token is wrong"],
        ),
    ]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let health = runtime.block_on(async {
        let channel =
            Channel::from_shared(format!("http://{}", shard.address)).unwrap().connect().await.unwrap();
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap().into_inner()
    });
    assert_eq!(health.status(), ServingStatus::Serving);
}

#[test]
fn a_token_that_changes_is_the_one_that_counts_from_then_on() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(1, 5));
    let at = folder.path();
    let file = token(at, "token", TOKEN);
    let shard = shard(at, &flag("--token-file", &file));
    assert_executes(&mut coordinator(&shard, &chain, &flag("--token-file", &file)), &chain);
    let next = token(at, "next", "bmV4dC1uZXh0LW5leHQt");
    token(at, "token", "bmV4dC1uZXh0LW5leHQt");
    // The coordinator retries, and the shard checks its file once a second.
    assert_executes(&mut coordinator(&shard, &chain, &flag("--token-file", &next)), &chain);
}

#[test]
fn who_has_a_certificate_of_the_authority_is_let_in_and_who_has_none_is_told_so() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(2, 20));
    let at = folder.path();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (authority, foreign) = (ours.write(at, "ca.pem"), theirs.write(at, "foreign.pem"));
    let of_shard = ours.sign(at, "shard", "127.0.0.1");
    let (known, unknown) = (ours.sign(at, "known", "coordinator"), theirs.sign(at, "unknown", "coordinator"));
    let shard = shard(at, &[of_shard.arguments(), flag("--tls-client-ca", &authority)].concat());
    let trusting = flag("--tls-ca", &authority);
    assert_executes(&mut coordinator(&shard, &chain, &[&trusting[..], &known.arguments()].concat()), &chain);
    let heartbeat = at.join("0.heartbeat");
    wait_until("all that came in is read", || depth(&heartbeat, "net-in") == 0);
    // Two blocks with their state have many times as many bytes.
    wait_until("bytes are counted", || received(&heartbeat, "net-in") > 4_096);
    let name = ["--tls-name".to_owned(), "elsewhere.example".to_owned()];
    assert_refused(vec![
        (coordinator(&shard, &chain, &[]), &[]),
        (coordinator(&shard, &chain, &trusting), &["no TLS", "it asks for a certificate: give --tls-cert"]),
        (
            coordinator(&shard, &chain, &[&trusting[..], &unknown.arguments()].concat()),
            &["no TLS", "it refuses this certificate"],
        ),
        (
            coordinator(&shard, &chain, &[&trusting[..], &known.arguments(), &name].concat()),
            &["no TLS", "give the name in its certificate by --tls-name"],
        ),
        (
            coordinator(&shard, &chain, &[flag("--tls-ca", &foreign), known.arguments()].concat()),
            &["no TLS", "give --tls-ca the authority that signed its certificate"],
        ),
    ]);
}

#[test]
fn certificates_that_change_are_those_that_count_from_then_on() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(1, 5));
    let at = folder.path();
    let authority = Authority::new("ours");
    let file = authority.write(at, "ca.pem");
    let shard = shard(at, &authority.sign(at, "shard", "before.example").arguments());
    let to = |name: &str| {
        let flags = [flag("--tls-ca", &file), vec!["--tls-name".to_owned(), name.to_owned()]].concat();
        coordinator(&shard, &chain, &flags)
    };
    assert_executes(&mut to("before.example"), &chain);
    // A half-finished renewal changes nothing.
    std::fs::remove_file(at.join("shard.key")).unwrap();
    assert_executes(&mut to("before.example"), &chain);
    authority.sign(at, "shard", "after.example");
    assert_executes(&mut to("after.example"), &chain);
}

#[test]
fn tls_where_only_one_end_speaks_it_is_told() {
    let (folder, chain) = (tempfile::tempdir().unwrap(), blocks::generated(1, 5));
    let authority = Authority::new("ours").write(folder.path(), "ca.pem");
    let shard = shard(folder.path(), &[]);
    let refused = coordinator(&shard, &chain, &flag("--tls-ca", &authority));
    shard.process.wait_for_words("it speaks TLS, and this shard was given no --tls-cert");
    assert_refused(vec![(refused, &["no TLS", "it may not speak TLS"])]);
    assert_executes(&mut coordinator(&shard, &chain, &[]), &chain);
}
