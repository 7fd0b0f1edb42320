//! Real PgBouncers between the application and the servers.

use crate::support::Pair;
use crate::support::application::{Application, Clients, Side};
use crate::support::pooler::{Mode, Pooler};

use super::fixture::{assert_complete, assert_settled, ready, switched_to};

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// An application that knows nothing but this pooler.
fn behind(pooler: &Pooler, pair: &Pair) -> Application {
    let clients = Clients {
        through: Some(pooler),
        ..Clients::of(pair)
    };
    clients.start(pair)
}

#[test]
fn clients_of_two_poolers_follow_there_and_back() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let [transaction, session] =
        [Mode::Transaction, Mode::Session].map(|mode| Pooler::start(&pair, mode));
    Pooler::configure(&pair, &[&transaction, &session]);
    let applications = [&transaction, &session].map(|pooler| behind(pooler, &pair));
    let all_write_on = |side: Side| {
        for application in &applications {
            application.await_writes_on(side, 50);
        }
    };
    all_write_on(BACK);
    let turns = [THERE, BACK];
    for to in turns {
        let report = switched_to(&pair, to);
        all_write_on(to);
        assert_complete(&report, &pair, to);
        let steps = report["steps"].to_string();
        for step in ["poolers", "route", "resume"] {
            assert!(steps.contains(&format!("\"{step}\"")), "{step}: {steps}");
        }
        assert_eq!(report["warnings"].to_string(), "[]", "{report:#}");
        assert_settled(&pair, to);
    }
    let [by_transaction, by_session] = applications.map(Application::stop);
    for written in [&by_transaction, &by_session] {
        written
            .verify(pair.publisher())
            .verify_arrives(pair.subscriber())
            .assert_sides(&[BACK, THERE, BACK])
            .assert_never_refused();
    }
    assert_eq!(by_transaction.errors_of_each(), [0; 4]);
    // One for a session that was ended, and none for the next, which waits.
    let errors = by_session.errors_of_each();
    assert!(
        errors.iter().all(|errors| *errors <= turns.len()),
        "{errors:?}"
    );
    println!(
        "session pooling: {errors:?} errors, {:?}",
        by_session.switches()
    );
    println!("transaction pooling: {:?}", by_transaction.switches());
}
