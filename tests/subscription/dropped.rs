//! Subscriptions without their publisher, without their slot, or made by somebody else.

use std::time::Duration;

use super::{SUBSCRIPTIONS, create_and_wait, goes_without_trace};
use crate::support::{Pair, wait};

#[test]
fn a_subscription_is_dropped_without_its_publisher_when_told_so() {
    for (old, new) in [(10, 10), (17, 18)] {
        let pair = Pair::alone(old, new).with_accounts(10).published();
        let sub = pair.subname();
        create_and_wait(&pair).ok();
        pair.publisher().stop();
        pair.flare(&["drop_subscription", sub])
            .code(1)
            .says("--force")
            .says("cannot be reached");
        assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "1");
        pair.flare(&["drop_subscription", "--force", sub])
            .ok()
            .prints(&format!("slot {sub:?} stays there"));
        assert_eq!(pair.subscriber().value(pair.db(), SUBSCRIPTIONS), "0");
        pair.publisher().start();
        goes_without_trace(&pair);
    }
}

#[test]
fn a_subscription_made_by_hand_is_known_and_a_lost_slot_is_said() {
    let pair = Pair::new(11, 16).with_accounts(10).replicating();
    let (sub, db) = (pair.subname(), pair.db());
    // The first run closes the subscriber, which whoever made it by hand has left open.
    for changed in [true, false] {
        let run = pair.flare(&[
            "create_subscription",
            "--use-repl-user",
            sub,
            "--format",
            "json",
        ]);
        assert_eq!(run.ok().json()["changed"], changed, "{run}");
    }
    pair.subscriber()
        .sql(db, &format!("ALTER SUBSCRIPTION {sub} DISABLE"));
    pair.flare(&["create_subscription", sub])
        .code(1)
        .says("it is disabled")
        .says("ENABLE");
    let gone = format!("SELECT pg_drop_replication_slot('{sub}')");
    wait::for_("the slot to be idle", Duration::from_secs(10), || {
        pair.publisher().try_rows(db, &gone).is_ok()
    });
    pair.flare(&["create_subscription", sub])
        .code(1)
        .says("is not on the publisher");
    goes_without_trace(&pair);
}
