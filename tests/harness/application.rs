//! An application that knows what it has written: everything that can be wrong is seen.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::LIMIT;
use crate::support::application::{self, Application, Side};
use crate::support::{Cluster, Pair, wait};

/// Whether it panicked, as an assertion that does not hold does.
fn fails<T>(assertion: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(assertion)).is_err()
}

#[test]
fn an_application_knows_what_it_has_written_and_where() {
    let pair = Pair::new(14, 17)
        .with_accounts(10)
        .replicating_with(application::create_tables);
    let (db, app) = (pair.db(), &pair.names().app);
    let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
    pair.flare(&["create_replication_status_table", db]).ok();
    pair.await_tables_ready();
    let connect = |server: &Cluster, grant_or_revoke: &str| {
        let sql = format!("{grant_or_revoke} PUBLIC")
            .replace("CONNECT", &format!("CONNECT ON DATABASE {db}"));
        server.sql("postgres", &sql);
    };
    let clear = |server: &Cluster| {
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{app}' AND datname = '{db}'"
        );
        wait::for_("the sessions to end", LIMIT, || {
            server.rows("postgres", &end).is_empty()
        });
    };
    connect(subscriber, "REVOKE CONNECT FROM");
    let application = Application::start(&pair);
    application.await_writes_on(Side::Publisher, 200);
    pair.flare(&["pause_write", db, "--allowed-rep-duration", "0s"])
        .ok();
    pair.flare(&["resume_write", db]).ok();
    application.await_writes_on(Side::Publisher, 50);

    // A cutover by hand.
    connect(publisher, "REVOKE CONNECT FROM");
    clear(publisher);
    pair.await_caught_up();
    pair.flare(&["replicate_sequences", pair.subname()]).ok();
    connect(subscriber, "GRANT CONNECT TO");
    application.await_writes_on(Side::Subscriber, 50);
    let written = application.stop();
    written.verify(subscriber).assert_never_refused();
    written.assert_sides(&[Side::Publisher, Side::Subscriber]);
    assert!(
        fails(|| written.verify(publisher)),
        "nothing carries rows back"
    );

    // Both doors open for a while, the way back without rows or sequences: everything that can be wrong is. The
    // subscriber's is shut in the end, or clients that miss their rows on the publisher would return to it for good.
    let application = Application::start(&pair);
    application.await_writes_on(Side::Subscriber, 50);
    connect(publisher, "GRANT CONNECT TO");
    connect(subscriber, "REVOKE CONNECT FROM");
    clear(subscriber);
    application.await_writes_on(Side::Publisher, 50);
    let written = application.stop();
    assert!(fails(|| written.assert_sides(&[Side::Subscriber])));
    assert!(fails(|| written.verify(publisher)));
    assert!(fails(|| written.verify(subscriber)));
}
