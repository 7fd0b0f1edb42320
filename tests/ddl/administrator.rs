//! An application that logs in as flare's administrator, which is the subscription's owner.

use crate::cutover::fixture::switched_to;
use crate::support::Pair;
use crate::support::application::Side;

use super::carry::{runs, settle};

#[test]
fn what_the_administrators_application_deploys_is_carried_there_and_back() {
    let pair = Pair::new(14, 18).with_accounts(10);
    let (sub, db) = (pair.subname(), pair.db());
    pair.create_roles_on(pair.subscriber());
    pair.configure(|config| {
        config["ddl"] = "carry".into();
        config["cutover"]["app_users"] = vec![pair.publisher().superuser()].into();
    });
    pair.flare(&["prepare", sub, "--yes"]).ok();
    for (open, column) in [(Side::Publisher, "one"), (Side::Subscriber, "two")] {
        if open == Side::Subscriber {
            switched_to(&pair, open);
        }
        let mut application = open.of(&pair).superuser_session(db);
        runs(
            &mut application,
            &format!(
                "ALTER TABLE pgbench_accounts ADD COLUMN {column} int DEFAULT 7;
                 UPDATE pgbench_accounts SET {column} = 8 WHERE aid = 1"
            ),
        );
        settle(&pair, open);
    }
    pair.flare(&["verify_data", sub]).ok();
}
