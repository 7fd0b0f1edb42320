//! A database without a schema public, or whose owner may not use it: flare's own table goes elsewhere.

use super::traces::globals;
use crate::support::Pair;

const SCHEMA: &str = r#""Od'd ""s""#;

#[test]
#[ignore = "make soak"]
fn a_database_without_public_goes_there_and_back() {
    let pair = Pair::new(14, 18);
    let (db, sub, publisher) = (pair.db(), pair.subname(), pair.publisher());
    pair.create_roles_on(pair.subscriber());
    publisher.sql(
        db,
        &format!(
            "DROP SCHEMA public; CREATE SCHEMA {SCHEMA} AUTHORIZATION {owner}; SET ROLE {owner};
             CREATE TABLE {SCHEMA}.t (id serial PRIMARY KEY, w text); INSERT INTO {SCHEMA}.t (w) VALUES ('a'), ('b')",
            owner = pair.names().owner
        ),
    );
    pair.configure(|config| {
        let publication = config["publications"][db].as_mapping_mut();
        let publication = publication.expect("a mapping");
        publication.remove("replica_identity_full_tables");
    });
    let before = globals(&pair, publisher);
    pair.flare(&["preflight", db])
        .code(3)
        .prints("there is no schema \"public\"");
    pair.flare(&["create_replication_status_table", db])
        .fails_with("has no schema \"public\"")
        .says("status_schema of the configuration");
    pair.configure(|config| config["status_schema"] = "pg_toast".into());
    pair.flare(&["status"]).code(2).says("status_schema");
    pair.configure(|config| config["status_schema"] = "Od'd \"s".into());
    // The fast copy brings the schema after the table was to be made there.
    let prepared = pair.flare(&["prepare", sub, "--yes"]);
    prepared.ok().prints("has no schema").prints("initial_copy");
    let rows = format!("SELECT string_agg(w, '' ORDER BY id) FROM {SCHEMA}.t");
    let status = |server: &crate::support::Cluster| {
        let sql = format!("SELECT count(*) > 0 FROM {SCHEMA}.flare_replication_status");
        server.value(db, &sql)
    };
    pair.flare(&["preflight", db]).code(0);
    pair.flare(&["verify_schema", sub]).ok();
    pair.flare(&["verify_data", sub]).ok();
    pair.flare(&["cutover", sub, "--yes"]).ok();
    assert_eq!(status(pair.subscriber()), "t");
    let insert = format!("INSERT INTO {SCHEMA}.t (w) VALUES ('c')");
    pair.subscriber().sql(db, &insert);
    pair.flare(&["fallback", sub, "--yes"]).ok();
    assert_eq!(publisher.value(db, &rows), "abc");
    pair.flare(&["status"]).ok().prints("ready to cut over");
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'flare%'";
    assert_eq!(publisher.value(db, left), "0");
    assert_eq!(globals(&pair, publisher), before);
}

#[test]
fn an_owner_who_may_not_use_public_is_told_what_to_do() {
    let pair = Pair::new(10, 16).with_accounts(1);
    let (db, owner) = (pair.db(), &pair.names().owner);
    pair.publisher()
        .sql(db, "REVOKE ALL ON SCHEMA public FROM PUBLIC");
    pair.flare(&["create_replication_status_table", db])
        .fails_with("may not create tables in schema \"public\"")
        .says(&format!(
            "GRANT USAGE, CREATE ON SCHEMA \"public\" TO \"{owner}\""
        ));
}
