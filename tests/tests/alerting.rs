//! From a fault to a person: the rules, routes and inhibitions of this repository in a real
//! Prometheus and Alertmanager, and what arrives at the receiver.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what went wrong by failing"
)]

use std::time::Duration;

use shard_tests::alertmanager::{self, Alerting};
use shard_tests::cluster::{Cluster, Plan};
use shard_tests::sidecar::Settings;
use shard_tests::wait;

/// Longer than a message can take: one minute of `keep_firing_for`, and everything else that
/// [`wait::GENEROUS`] allows for.
const DELIVERED: Duration = Duration::from_secs(150);

/// The thread is lost, the process killed, and the supervisor backs off for much longer than
/// `restart.within`.
#[test]
fn a_lost_thread_without_a_restart_in_time_is_one_page_and_its_resolution() {
    if !alertmanager::installed_or_skip(
        "a_lost_thread_without_a_restart_in_time_is_one_page_and_its_resolution",
    ) {
        return;
    }
    let back_off = ["--backoff-initial", "20s", "--backoff-max", "20s", "--settled-after", "1h"];
    let cluster = Cluster::start(&Plan {
        settings: Settings { append: "[restart]\nwithin = \"1s\"\n".to_owned(), ..Settings::default() },
        supervise: back_off.map(str::to_owned).to_vec(),
        ..Plan::default()
    });
    let sidecars: Vec<_> = cluster.shards.iter().map(|shard| shard.sidecar.http).collect();
    let alerting = Alerting::start(cluster.folder(), &sidecars);

    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let page = alerting.notice(DELIVERED, "page", "0", "firing");
    assert_eq!(page.alerts, [("ShardRestartSlow".to_owned(), "firing".to_owned())], "{:#}", page.body);
    let annotations = &page.body["alerts"][0]["annotations"];
    assert_eq!(annotations["runbook_url"], "https://runbooks.example/ShardRestartSlow.md");
    // The incident has a ticket too, which waits while a page is open for the same shard.
    wait::until("the ticket for the lost thread to be held back", || {
        alerting.inhibits("ShardThreadGone", "0").then_some(())
    });

    alerting.notice(DELIVERED, "page", "0", "resolved");
    // In the morning it reports what the page was about.
    let ticket = alerting.notice(DELIVERED, "ticket", "0", "firing");
    assert_eq!(ticket.alerts, [("ShardThreadGone".to_owned(), "firing".to_owned())], "{:#}", ticket.body);

    let all = alerting.notices();
    let mut told: Vec<_> = all.iter().map(|one| (&*one.receiver, &*one.shard, &*one.status)).collect();
    // Resolution and ticket arrive in the same second.
    told.sort_unstable();
    assert_eq!(told, [("page", "0", "firing"), ("page", "0", "resolved"), ("ticket", "0", "firing")]);
    assert_eq!(cluster.shards[0].sidecar.incident("recovered")["reason"], "thread_gone");
    // promtool's made-up series are fewer than real ones: no real series may break a rule.
    assert_eq!(alerting.broken_rules(), Vec::<String>::new());
}

/// The same fault, healed within a second: somebody reads about it in the morning, and nobody is
/// woken.
#[test]
fn a_lost_thread_that_is_restarted_at_once_is_a_ticket_and_no_page() {
    if !alertmanager::installed_or_skip("a_lost_thread_that_is_restarted_at_once_is_a_ticket_and_no_page") {
        return;
    }
    let cluster = Cluster::start(&Plan::default());
    let sidecars: Vec<_> = cluster.shards.iter().map(|shard| shard.sidecar.http).collect();
    let alerting = Alerting::start(cluster.folder(), &sidecars);

    cluster.inject(0, &["hook off", "arm panic after 3"]);
    let ticket = alerting.notice(DELIVERED, "ticket", "0", "firing");
    assert_eq!(ticket.alerts, [("ShardThreadGone".to_owned(), "firing".to_owned())], "{:#}", ticket.body);
    assert_eq!(alerting.notices().len(), 1, "{:#?}", alerting.notices());
    assert_eq!(cluster.shards[0].sidecar.incident("recovered")["reason"], "thread_gone");
}
