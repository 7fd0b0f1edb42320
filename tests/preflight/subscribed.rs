//! What goes wrong with a subscription that is there already.

use crate::preflight::{assert_found, look};
use crate::support::Pair;

#[test]
fn what_a_subscription_lacks_is_named() {
    for (old, new) in [(10, 14), (17, 18)] {
        let pair = Pair::new(old, new).with_pgbench(1).replicating();
        let (db, sub) = (pair.db(), pair.subname());
        let (owner, repl) = (&pair.names().owner, &pair.names().repl);
        pair.publisher().sql(
            db,
            &format!("CREATE TABLE f (id int PRIMARY KEY, x float8); REVOKE CONNECT ON DATABASE {db} FROM PUBLIC, {repl}"),
        );
        pair.subscriber().sql(
            db,
            &format!(
                "UPDATE pg_subscription SET subowner = (SELECT oid FROM pg_roles WHERE rolname = '{repl}'),
                        subconninfo = replace(subconninfo, 'extra_float_digits', 'gin_fuzzy_search_limit') WHERE subname = '{sub}'"
            ),
        );
        let json = look(&pair);
        assert_found(&json, "repl_connect", "blocker", repl);
        if old == 10 {
            assert_found(&json, "float_digits", "blocker", "public.f.x");
        } else {
            assert_found(&json, "subscription_owner", "blocker", owner);
        }
    }
}
