//! grant_replication, create_publication, drop_publication and the status table, on real servers.

use crate::support::{Cluster, Pair, matrix};

const TABLES: &str =
    "SELECT count(*) FROM pg_publication_tables WHERE tablename <> 'flare_replication_status'";
const STATUS: &str = "SELECT tableowner FROM pg_tables WHERE schemaname = 'public' AND tablename = 'flare_replication_status'";

#[test]
fn grants_and_publication_are_made_once_on_every_version() {
    matrix::for_some_pairs(|old, new| {
        let pair = Pair::new(old, new).with_accounts(10);
        let (publisher, db) = (pair.publisher(), pair.db());
        publisher.sql(
            db,
            &format!(
                "CREATE SCHEMA \"A pp\" AUTHORIZATION {owner};
                 SET ROLE {owner};
                 CREATE TABLE \"A pp\".\"Or\"\"der\" (id serial PRIMARY KEY)",
                owner = pair.names().owner
            ),
        );
        pair.flare(&["grant_replication", db, "--dry-run"])
            .ok()
            .prints("GRANT ALL ON DATABASE");
        for changed in [true, false] {
            for command in [
                &["grant_replication", "--use-db-owner", db][..],
                &["create_publication", db],
            ] {
                let run = pair.flare(&[command, &["--format", "json"]].concat());
                assert_eq!(run.ok().json()["changed"], changed, "{run}");
            }
        }
        assert_eq!(publisher.value(db, TABLES), "5");
        assert_eq!(publisher.value(db, STATUS), pair.names().owner);
        let identity = "SELECT relreplident FROM pg_class WHERE relname = 'pgbench_history'";
        assert_eq!(publisher.value(db, identity), "f");
        publisher.sql(
            db,
            &format!(
                "SET ROLE {}; CREATE TABLE later (a int PRIMARY KEY)",
                pair.names().owner
            ),
        );
        let reads = format!(
            "SELECT has_table_privilege('{repl}', 'later', 'SELECT')
                AND has_table_privilege('{repl}', '\"A pp\".\"Or\"\"der\"', 'TRUNCATE')
                AND has_sequence_privilege('{repl}', '\"A pp\".\"Or\"\"der_id_seq\"', 'SELECT')",
            repl = pair.names().repl
        );
        assert_eq!(publisher.value(db, &reads), "t");
        pair.flare(&["drop_publication", db]).ok();
        pair.flare(&["drop_publication", db])
            .ok()
            .prints("there is no publication");
    });
}

#[test]
fn tables_that_could_not_be_updated_are_refused_by_name() {
    let pair = Pair::new(17, 18).with_accounts(10);
    let (publisher, db) = (pair.publisher(), pair.db());
    pair.configure(|c| {
        c["publications"][db]["replica_identity_full_tables"] = Vec::<String>::new().into()
    });
    pair.flare(&["create_publication", db])
        .code(1)
        .says("publish public.pgbench_history")
        .says("ADD PRIMARY KEY");
    assert_eq!(
        publisher.value(db, "SELECT count(*) FROM pg_publication"),
        "0"
    );
    assert_eq!(
        publisher.value(db, &format!("SELECT count(*) FROM ({STATUS}) t")),
        "0"
    );
    pair.configure(|c| c["publications"][db]["allow_no_identity"] = vec!["Pgbench_history"].into());
    pair.flare(&["create_publication", db])
        .code(2)
        .says("did you mean public.pgbench_history?");
    pair.configure(|c| c["publications"][db]["allow_no_identity"] = vec!["pgbench_history"].into());
    pair.flare(&["create_publication", db]).ok();
}

#[test]
fn a_list_of_tables_is_published_and_completed() {
    matrix::for_some_pairs(|old, new| {
        let pair = Pair::new(old, new).with_accounts(10);
        let (publisher, db) = (pair.publisher(), pair.db());
        publisher.sql(
            db,
            &format!(
                "SET ROLE {}; CREATE TABLE part (a int NOT NULL) PARTITION BY LIST (a);
                 CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
                 ALTER TABLE part_1 ADD PRIMARY KEY (a); CREATE UNLOGGED TABLE u (a int)",
                pair.names().owner
            ),
        );
        pair.configure(|c| {
            c["publications"][db]["tables"] = vec!["pgbench_tellers", "part"].into()
        });
        pair.flare(&["create_publication", db]).ok();
        let names =
            "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables";
        assert_eq!(
            publisher.value(db, names),
            "flare_replication_status part_1 pgbench_tellers"
        );
        pair.configure(|c| {
            c["publications"][db]["tables"] = vec!["pgbench_branches", "part"].into();
        });
        pair.flare(&["create_publication", db])
            .ok()
            .prints("also has public.pgbench_tellers");
        assert_eq!(
            publisher.value(db, names),
            "flare_replication_status part_1 pgbench_branches pgbench_tellers"
        );
        pair.configure(|c| c["publications"][db]["tables"] = vec!["u"].into());
        pair.flare(&["create_publication", db])
            .code(1)
            .says("unlogged");
    });
}

#[test]
fn an_administrator_without_superuser_lists_the_tables_as_their_owner() {
    for old in [10, 18] {
        let pair = Pair::rds(old, 18).with_accounts(10);
        let (publisher, db) = (pair.publisher(), pair.db());
        pair.flare(&["grant_create", "--use-db-owner", db]).ok();
        pair.flare(&["grant_replication", "--use-db-owner", db])
            .ok();
        let run = pair.flare(&["create_publication", db]);
        run.ok().prints("listed one by one");
        assert_eq!(publisher.value(db, TABLES), "4");
        let owner = "SELECT pg_get_userbyid(pubowner) FROM pg_publication";
        assert_eq!(publisher.value(db, owner), pair.names().owner);
        let again = pair.flare(&["create_publication", db, "--format", "json"]);
        assert_eq!(again.ok().json()["changed"], false, "{again}");
        pair.flare(&["drop_publication", db]).ok();
    }
}

#[test]
fn a_publication_in_use_is_not_dropped() {
    let pair = Pair::new(14, 17).with_accounts(10).replicating();
    let db = pair.db();
    pair.flare(&["drop_publication", db])
        .code(1)
        .says("it is in use")
        .says(&format!("subscription {:?}", pair.subname()));
    pair.flare(&["drop_publication", db, "--force", "--dry-run"])
        .ok()
        .prints("DROP PUBLICATION");
    assert_eq!(
        pair.publisher()
            .value(db, "SELECT count(*) FROM pg_publication"),
        "1"
    );
}

#[test]
fn the_status_table_is_made_on_both_sides_and_replicated() {
    matrix::for_some_pairs(|old, new| {
        let pair = Pair::new(old, new).with_accounts(10).replicating();
        let (publisher, subscriber, db) = (pair.publisher(), pair.subscriber(), pair.db());
        for changed in [true, false] {
            let run = pair.flare(&["create_replication_status_table", db, "--format", "json"]);
            assert_eq!(run.ok().json()["changed"], changed, "{run}");
        }
        pair.await_tables_ready();
        let insert = |server: &Cluster| {
            let identifier = publisher.system_identifier();
            server.sql(
                db,
                &format!(
                    "INSERT INTO flare_replication_status VALUES ('{identifier}', 'u', now())"
                ),
            );
        };
        insert(publisher);
        pair.await_caught_up();
        let count = "SELECT count(*) FROM flare_replication_status";
        assert_eq!(subscriber.value(db, count), "1");
        pair.flare(&["reset_replication_status", db]).ok();
        assert_eq!(publisher.value(db, count), "0");
        assert_eq!(subscriber.value(db, count), "0");
        let again = pair.flare(&["reset_replication_status", db, "--format", "json"]);
        assert_eq!(again.ok().json()["changed"], false, "{again}");
    });
}
