//! Signals, leftovers of an earlier run, servers that stand still: what is made is whole or gone.

use std::time::Duration;

use super::{
    SLOTS, SLOW, SUBSCRIPTIONS, create, create_and_wait, goes_without_trace, nothing_is_left,
};
use crate::support::{Cluster, Pair, matrix, wait};

#[test]
fn a_signal_while_the_slot_waits_leaves_nothing() {
    let pair = Pair::new(16, 18).with_accounts(10).published();
    let mut blocker = pair.publisher().superuser_session("postgres");
    blocker
        .batch_execute("BEGIN; SELECT txid_current()")
        .expect("begin");
    let running = pair.spawn(&["create_subscription", "--use-repl-user", pair.subname()]);
    running.until_stderr("waits for an open transaction");
    running.signal(2);
    running.wait().code(130);
    let gone = || pair.publisher().value(pair.db(), SLOTS).is_empty();
    wait::for_("the slot to go", Duration::from_secs(10), gone);
    nothing_is_left(&pair);
}

#[test]
fn a_signal_while_it_copies_leaves_it_running_and_a_drop_takes_every_slot() {
    for &(old, new) in matrix::sample(&[(10, 10), (13, 14), (18, 18)], &[(10, 10), (18, 18)]) {
        let pair = Pair::new(old, new).with_accounts(10).published();
        pair.subscriber().sql(pair.db(), SLOW);
        let sub = pair.subname();
        let running = pair.spawn(&["create_subscription", "--use-repl-user", "--wait", sub]);
        let ready = "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'";
        wait::for_("the other tables", Duration::from_secs(60), || {
            pair.subscriber().value(pair.db(), ready) == "4"
        });
        running.signal(2);
        running.wait().code(130).says("goes on copying by itself");
        assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "1");
        let slots = pair.publisher().value(pair.db(), SLOTS);
        assert!(new < 14 || slots.contains("_sync_"), "{slots}");
        goes_without_trace(&pair);
    }
}

#[test]
fn a_slot_that_was_left_behind_is_made_anew() {
    let pair = Pair::new(17, 18).with_accounts(10).published();
    let slot = format!(
        "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')",
        pair.subname()
    );
    pair.publisher().value(pair.db(), &slot);
    create_and_wait(&pair).ok().prints("left behind");
    pair.flare(&["drop_subscription", "--keep-slot", pair.subname()])
        .ok()
        .prints("stays on the publisher");
    assert_eq!(pair.publisher().value(pair.db(), SLOTS), pair.subname());
    goes_without_trace(&pair);
}

#[test]
#[ignore = "make soak"]
fn frozen_servers_hold_nobody_up() {
    let frozen = Cluster::private(16, &[]);
    frozen.freeze();
    let pair = Pair::alone(17, 18).with_accounts(10).published();
    let sub = pair.subname();
    let lead_to = |server: &Cluster| {
        let (host, port) = (server.host(), u64::from(server.port()));
        pair.configure(|c| {
            let conn = &mut c["hosts"]["publisher"]["conn"];
            conn["host_via_subscriber"] = host.into();
            conn["port_via_subscriber"] = port.into();
        });
    };
    lead_to(&frozen);
    create(&pair)
        .code(1)
        .says("host_via_subscriber")
        .says("undone, nothing is left");
    nothing_is_left(&pair);
    frozen.thaw();

    lead_to(pair.publisher());
    pair.subscriber().sql(pair.db(), SLOW);
    create(&pair).ok();
    let slots = || pair.publisher().value(pair.db(), SLOTS);
    wait::for_("a copy's slot", Duration::from_secs(20), || {
        slots().contains("_sync_")
    });
    pair.publisher().freeze();
    pair.flare(&["drop_subscription", sub])
        .code(1)
        .says("--force");
    let dropped = pair.flare(&["drop_subscription", "--force", sub]);
    pair.publisher().thaw();
    dropped.ok().prints("stays there");
    assert!(
        dropped.took() < wait::BUSY * Duration::from_secs(5),
        "{dropped}"
    );
    goes_without_trace(&pair);
}
