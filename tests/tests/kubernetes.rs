//! The manifests for Kubernetes: they build, two versions of Kubernetes would accept them, what
//! they repeat is up to date, and what they describe is run as written, in namespaces like those of
//! a pod.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and its runner ends a wait without end"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use shard_tests::figures::Record;
use shard_tests::pod::Pod;
use shard_tests::process::{Process, binary};
use shard_tests::sidecar::{Settings, Sidecar};
use shard_tests::{api, blocks, faults, incident, skip, wait};

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../watchdog/deploy/kubernetes")
}

/// Runs a script beside the manifests; `None` if it reports a missing tool, which fails in CI.
#[track_caller]
fn script(test: &str, name: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new("python3").arg(manifests().join(name)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.code() == Some(2) {
        assert!(!std::env::var("CI").is_ok_and(|ci| ci == "true"), "CI needs it: {said}");
        skip::note(test, &said);
        return None;
    }
    assert!(output.status.success(), "{name}: {said}");
    Some(output)
}

/// The objects that a folder of manifests builds.
#[track_caller]
fn built(test: &str, folder: &str) -> Option<Vec<Value>> {
    let folder = manifests().join(folder);
    let output = script(test, "check", &["--json", folder.to_str().unwrap()])?;
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[track_caller]
fn one<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let mut found = objects.iter().filter(|object| object["kind"] == kind);
    let first = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    first
}

/// The config in the `ConfigMap` that the pod mounts.
#[track_caller]
fn config_of(objects: &[Value]) -> String {
    let volumes =
        one(objects, "StatefulSet")["spec"]["template"]["spec"]["volumes"].as_array().unwrap().clone();
    let mounted = volumes.iter().find_map(|volume| volume["configMap"]["name"].as_str()).unwrap();
    let map = objects.iter().find(|map| map["kind"] == "ConfigMap" && map["metadata"]["name"] == mounted);
    map.expect("the map that is mounted")["data"]["watchdog.toml"].as_str().unwrap().to_owned()
}

#[test]
fn two_versions_of_kubernetes_take_every_manifest() {
    script("two_versions_of_kubernetes_take_every_manifest", "check", &[]);
}

#[test]
fn alerts_and_dashboards_are_those_of_the_repository() {
    script("alerts_and_dashboards_are_those_of_the_repository", "generate", &["--check"]);
}

#[test]
fn a_manifest_says_nothing_that_the_programs_do_not_keep() {
    let test = "a_manifest_says_nothing_that_the_programs_do_not_keep";
    for (folder, sidecar) in [
        ("overlays/example-with-claims", "watchdog"),
        ("overlays/one-container", "executor"),
        ("overlays/exit-code", "watchdog"),
    ] {
        let Some(objects) = built(test, folder) else { return };
        let spec = &one(&objects, "StatefulSet")["spec"]["template"]["spec"];
        let all = ["initContainers", "containers"].into_iter().filter_map(|kind| spec[kind].as_array());
        let containers: Vec<&Value> = all.flatten().collect();

        let context = &spec["securityContext"];
        assert_eq!(
            (&context["runAsNonRoot"], &context["seccompProfile"]["type"]),
            (&true.into(), &"RuntimeDefault".into())
        );
        for container in &containers {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{folder}: {container:#}");
            assert_eq!(context["allowPrivilegeEscalation"], false);
            assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}));
            assert!(context["runAsUser"].is_null(), "one user for all containers: that of the pod");
            assert!(container["resources"]["limits"]["memory"].is_string());
            // The kubelet would kill regardless of observe mode, pause and budget.
            assert_ne!(container["livenessProbe"]["httpGet"]["path"], "/shard/readyz", "{folder}");
        }
        let with_probes: Vec<_> = containers.iter().filter(|one| one["readinessProbe"].is_object()).collect();
        assert_eq!(with_probes.len(), 1);
        assert_eq!(with_probes[0]["name"], sidecar);
        assert_eq!(with_probes[0]["readinessProbe"]["httpGet"]["path"], "/shard/readyz");

        // Every port requested by name exists exactly once, and is the one that the config or the
        // arguments name.
        let ports: Vec<(String, u64)> = containers
            .iter()
            .filter_map(|container| container["ports"].as_array())
            .flatten()
            .map(|port| (port["name"].as_str().unwrap().to_owned(), port["containerPort"].as_u64().unwrap()))
            .collect();
        let port = |name: &str| {
            let found: Vec<_> =
                ports.iter().filter(|(known, _)| known == name).map(|(_, port)| *port).collect();
            assert_eq!(found.len(), 1, "{folder}: the port {name}: {ports:?}");
            found[0]
        };
        let config = config_of(&objects);
        assert!(config.contains(&format!("public = \"0.0.0.0:{}\"", port("watchdog"))), "{config}");
        let executor = containers.iter().find(|one| one["name"] == "executor").unwrap();
        let arguments = executor["args"].to_string();
        assert!(arguments.contains(&format!("--listen=0.0.0.0:{}", port("grpc"))), "{arguments}");
        assert!(arguments.contains(&format!("--metrics=0.0.0.0:{}", port("metrics"))), "{arguments}");
        assert!(arguments.contains("--heartbeat=/run/shard/heartbeat"), "{arguments}");
        assert!(config.contains("heartbeat = \"/run/shard/heartbeat\""), "{config}");
        for endpoint in one(&objects, "PodMonitor")["spec"]["podMetricsEndpoints"].as_array().unwrap() {
            port(endpoint["port"].as_str().unwrap());
        }
        for rule in one(&objects, "NetworkPolicy")["spec"]["ingress"].as_array().unwrap() {
            for allowed in rule["ports"].as_array().unwrap() {
                port(allowed["port"].as_str().unwrap());
            }
        }

        // A pod that does not share the pid namespace uses another way throughout.
        let apart = folder == "overlays/exit-code";
        assert_eq!(
            spec["shareProcessNamespace"] == true,
            folder == "overlays/example-with-claims",
            "{folder}"
        );
        assert_eq!(config.contains("by = \"exit-code\""), apart, "{folder}");
        assert_eq!(arguments.contains("--show-proc"), apart, "{folder}");
        assert_eq!(containers.iter().any(|one| one["restartPolicyRules"].is_array()), apart, "{folder}");

        // The sidecar itself checks the config by which a person chooses to kill.
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("watchdog.toml");
        std::fs::write(&path, &config).unwrap();
        let mut check = Command::new(binary("shard-watchdog"));
        check.args(["check", "--config"]).arg(&path);
        let nameless = check.output().unwrap();
        assert_eq!(nameless.status.code(), Some(2), "the shard's name comes from the pod alone");
        let output = check.args(["--shard", "3"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{folder}: {said}");
        assert!(config.contains("mode = \"observe\""), "{folder}");
    }
}

/// Longer than `stall_after` of the pods here.
const A_STALL: Duration = Duration::from_secs(3);

/// The sidecar's two addresses in every pod, as its config has them.
fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A pod of the overlay, whose sidecar may kill, and the sidecar as the test queries it.
#[track_caller]
fn pod(test: &str, folder: &Path, overlay: &str) -> Option<(Pod, Sidecar)> {
    let objects = built(test, overlay)?;
    let config = config_of(&objects).replace("mode = \"observe\"", "mode = \"enforce\"");
    // Each life of a sidecar counts anew.
    let config = config.replace("stall_after = \"5s\"", "stall_after = \"2s\"");
    let pod = Pod::start(folder, one(&objects, "StatefulSet"), 3, &config);
    let sidecar = Sidecar {
        config: pod.volume("config").join("watchdog.toml"),
        http: address(9611),
        evidence: pod.volume("evidence").join("evidence"),
        heartbeat: PathBuf::new(),
    };
    Some((pod, sidecar))
}

/// Gives the shard endless work.
#[track_caller]
fn coordinator(pod: &Pod, folder: &Path) -> Process {
    let blocks = blocks::generated(folder, 10, 20);
    let mut command = pod.enter(&["--net"]);
    command.arg(binary("shard-executor")).args(["coordinator", "--shards", "127.0.0.1:7001", "--blocks"]);
    command.arg(&blocks).args(["--repeat", "0", "--json", "--block-deadline", "60s", "--token-file"]);
    command.arg(pod.volume("token").join("token"));
    Process::start("coordinator", command)
}

#[track_caller]
fn probe(pod: &Pod, path: &str, code: u16) -> String {
    wait::until(&format!("{path} to answer {code}"), || {
        let answer = pod.within(|| api::get(address(9612), path))?;
        (answer.code == code).then_some(answer.body)
    })
}

/// Waits until the sidecar sees a shard that may get work.
#[track_caller]
fn healthy(pod: &Pod, sidecar: &Sidecar) -> Value {
    wait::until("a shard that may get work", || {
        pod.within(|| sidecar.status()).filter(|status| status["verdict"] == "healthy")
    })
}

/// The pod's own address serves neither orders nor the status.
fn assert_public_is_for_probes(pod: &Pod) {
    let status = pod.within(|| api::get(address(9612), "/api/v1/status")).unwrap();
    assert_eq!(status.code, 404, "{}", status.body);
}

#[test]
fn the_sidecar_of_a_pod_kills_without_a_capability_and_outlives_the_restart() {
    let test = "the_sidecar_of_a_pod_kills_without_a_capability_and_outlives_the_restart";
    if !Pod::possible(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((pod, sidecar)) = pod(test, folder.path(), "overlays/example") else { return };
    // Like the kubelet: the executor starts once the sidecar's startup probe has succeeded.
    let mut watchdog = pod.run("watchdog", &[]);
    probe(&pod, "/readyz", 200);
    let more = ["--faults=/run/faults/port"];
    let mut executor = pod.run("executor", &more);
    healthy(&pod, &sidecar);
    probe(&pod, "/shard/readyz", 200);
    probe(&pod, "/livez", 200);
    assert_public_is_for_probes(&pod);
    let _coordinator = coordinator(&pod, folder.path());

    let status = pod.within(|| sidecar.status()).unwrap();
    assert_eq!(status["shard"], "3", "by its pod's number: {status:#}");
    faults::order(&pod.volume("faults").join("port"), &["hook off", "guard off", "arm panic"]);
    let end = executor.wait("the end of the executor's container");
    assert_eq!(end.signal(), Some(Signal::KILL.as_raw()), "{end}");
    probe(&pod, "/shard/readyz", 503);
    assert!(watchdog.is_running(), "the sidecar is no part of it");

    let executor = pod.run("executor", &more);
    let story = sidecar.incident("recovered");
    assert_eq!(story["reason"], "thread_gone", "{story:#}");
    let step = |step| incident::step_at(&story, step).unwrap();
    Record::named("kubernetes").case("pod").time("verdict_to_dead_ms", step("seen"), step("exited")).keep();

    // Only the sidecar is replaced: the executor notices nothing, and past kills are not forgotten.
    pod.kill(watchdog);
    let _watchdog = pod.run("watchdog", &[]);
    let status = healthy(&pod, &sidecar);
    assert_eq!(status["kills_left"], 2, "{status:#}");
    assert_eq!(sidecar.incidents().len(), 1);
    drop(executor);
}

#[test]
fn one_container_without_a_shared_pid_namespace_kills_and_restarts_by_itself() {
    let test = "one_container_without_a_shared_pid_namespace_kills_and_restarts_by_itself";
    if !Pod::possible(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((pod, sidecar)) = pod(test, folder.path(), "overlays/one-container") else { return };
    let mut container = pod.run("executor", &["--faults=/run/faults/port"]);
    let first = healthy(&pod, &sidecar);
    probe(&pod, "/shard/readyz", 200);
    assert_public_is_for_probes(&pod);
    let _coordinator = coordinator(&pod, folder.path());
    faults::order(&pod.volume("faults").join("port"), &["hook off", "guard off", "arm panic"]);
    let story = sidecar.incident("recovered");
    assert_eq!(story["reason"], "thread_gone", "{story:#}");
    let step = |step| incident::step_at(&story, step).unwrap();
    Record::named("kubernetes")
        .case("one-container")
        .time("verdict_to_dead_ms", step("seen"), step("exited"))
        .time("dead_to_restarted_ms", step("exited"), step("restarted"))
        .keep();
    assert!(container.is_running(), "the kubelet has nothing to restart");
    let status = pod.within(|| sidecar.status()).unwrap();
    assert_ne!(status["incarnation"], first["incarnation"]);
}

/// A pod whose containers each have a pid namespace of their own, with both started.
#[track_caller]
fn apart(test: &str, folder: &Path) -> Option<(Pod, Sidecar, [Process; 2])> {
    let (pod, sidecar) = pod(test, folder, "overlays/exit-code")?;
    let watchdog = pod.run("watchdog", &[]);
    probe(&pod, "/readyz", 200);
    let executor = pod.run("executor", &["--faults=/run/faults/port"]);
    let status = healthy(&pod, &sidecar);
    assert_eq!(status["kill_by"], "exit-code", "{status:#}");
    Some((pod, sidecar, [watchdog, executor]))
}

/// Waits for the sidecar to end in the way that tells the kubelet to restart all containers.
#[track_caller]
fn asks_for_a_restart(pod: &Pod, watchdog: &mut Process) {
    let end = watchdog.wait("the sidecar to end itself");
    let rule = &pod.container("watchdog")["restartPolicyRules"][0];
    assert_eq!(rule["action"], "RestartAllContainers");
    assert_eq!(end.code().map(Value::from).as_ref(), rule["exitCodes"]["values"].get(0), "{end}");
}

#[test]
fn a_sidecar_that_cannot_signal_has_all_containers_restarted_by_its_exit_code() {
    let test = "a_sidecar_that_cannot_signal_has_all_containers_restarted_by_its_exit_code";
    if !Pod::possible(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((pod, sidecar, [mut watchdog, mut executor])) = apart(test, folder.path()) else {
        return;
    };
    let first = pod.within(|| sidecar.status()).unwrap();
    // Seen from the next container: a stop is excused, and costs nothing.
    pod.signal(&executor, Signal::STOP);
    let verdict = || pod.within(|| sidecar.verdict());
    wait::until("the stop to be excused", || (verdict() == "excused").then_some(()));
    wait::holds_for(A_STALL, "a stopped shard is let be", || watchdog.is_running());
    wait::until("it to be excused still", || (verdict() == "excused").then_some(()));
    pod.signal(&executor, Signal::CONT);
    let status = healthy(&pod, &sidecar);
    assert_eq!((&status["incarnation"], sidecar.incidents().len()), (&first["incarnation"], 0));

    let coordinator = coordinator(&pod, folder.path());
    faults::order(&pod.volume("faults").join("port"), &["hook off", "guard off", "arm panic"]);
    asks_for_a_restart(&pod, &mut watchdog);
    assert!(executor.is_running(), "nobody has signalled it");
    // What must not be lost is on disk by then.
    let story = sidecar.incidents().pop().expect("its incident");
    let signal = story["timeline"].as_array().unwrap().iter().find(|step| step["step"] == "signal");
    assert_eq!(signal.expect("what was done")["detail"], "exit code 86", "{story:#}");

    // Here the test acts as the kubelet.
    pod.kill(executor);
    let _watchdog = pod.run("watchdog", &[]);
    probe(&pod, "/readyz", 200);
    let _executor = pod.run("executor", &[]);
    let status = healthy(&pod, &sidecar);
    assert_ne!(status["incarnation"], first["incarnation"]);
    assert_eq!(status["kills_left"], 2, "{status:#}");
    // The next sidecar goes on with the incident in which the first one ended itself.
    let story = sidecar.incident("recovered");
    assert_eq!((&story["reason"], sidecar.incidents().len()), (&"thread_gone".into(), 1), "{story:#}");
    let step = |step| incident::step_at(&story, step).unwrap();
    Record::named("kubernetes")
        .case("exit-code")
        .time("seen_to_leaving_ms", step("seen"), step("signal"))
        .keep();
    wait::until("work after it", || {
        let status = pod.within(|| sidecar.status())?;
        status["threads"].as_array()?.iter().any(|thread| thread["work_key"].is_u64()).then_some(())
    });
    drop(coordinator);
}

#[test]
fn a_sidecar_that_ends_itself_in_vain_remembers_that_it_did() {
    let test = "a_sidecar_that_ends_itself_in_vain_remembers_that_it_did";
    if !Pod::possible(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((pod, sidecar, [mut watchdog, mut executor])) = apart(test, folder.path()) else {
        return;
    };
    let _coordinator = coordinator(&pod, folder.path());
    // A thread that sleeps for ever, seen through the /proc that the executor shows to the next
    // container.
    faults::order(&pod.volume("faults").join("port"), &["arm deadlock"]);
    for _ in 0..2 {
        asks_for_a_restart(&pod, &mut watchdog);
        // A kubelet without a rule for that restarts only the sidecar.
        watchdog = pod.run("watchdog", &[]);
    }
    let status = wait::until("the same work at two kills to be noticed", || {
        pod.within(|| sidecar.status()).filter(|status| status["spared"] == true)
    });
    assert_eq!(status["verdict"], "crash_loop", "{status:#}");
    assert_eq!(status["kills_left"], 1, "{status:#}");
    assert!(watchdog.is_running() && executor.is_running());
    let story = wait::until("two kills, and one that is withheld, on the disk", || {
        let story = sidecar.incidents().pop()?;
        let count = |wanted: &str| {
            let steps = story["timeline"].as_array().into_iter().flatten();
            steps.filter(|step| step["step"] == wanted).count()
        };
        (count("signal") == 2 && count("withheld") > 0).then_some(story)
    });
    // It is the same process that stands still at the same work: one incident.
    assert_eq!((&story["reason"], sidecar.incidents().len()), (&"stalled".into(), 1), "{story:#}");
}

#[test]
fn a_kill_that_cannot_be_remembered_is_none() {
    let test = "a_kill_that_cannot_be_remembered_is_none";
    if !Pod::possible(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some((pod, _, [mut watchdog, mut executor])) = apart(test, folder.path()) else {
        return;
    };
    std::fs::set_permissions(pod.volume("evidence"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _coordinator = coordinator(&pod, folder.path());
    faults::order(&pod.volume("faults").join("port"), &["hook off", "guard off", "arm panic"]);
    let end = watchdog.wait("the sidecar to end itself");
    assert_eq!(end.code(), Some(1), "{end}");
    let said = watchdog.lines().join("\n");
    assert!(said.contains("is not restarted") && said.contains("/var/lib/shard-watchdog/evidence"), "{said}");
    assert!(executor.is_running());
}

#[test]
fn a_reload_does_not_change_what_ends_a_target() {
    let folder = tempfile::tempdir().unwrap();
    let sidecar = Sidecar::configure(folder.path(), "0", "exec-s0", &Settings::default());
    let mut command = Command::new(binary("shard-watchdog"));
    command.args(["run", "--config"]).arg(&sidecar.config);
    let watchdog = Process::start("watchdog", command);
    wait::until("the sidecar to answer", || sidecar.status());
    let config = std::fs::read_to_string(&sidecar.config).unwrap();
    std::fs::write(&sidecar.config, config.replace("[kill]\n", "[kill]\nby = \"exit-code\"\n")).unwrap();
    watchdog.signal(Signal::HUP);
    watchdog.line("the refusal", 0, |line| line.contains("kill.by cannot change").then_some(()));
    assert_eq!(sidecar.status().unwrap()["kill_by"], "signal");
}
