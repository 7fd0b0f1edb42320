//! The database `postgres`, which has flare's journal, moves as any other one; its application logs in as flare's
//! administrator.

use crate::support::Pair;
use crate::support::pair::Names;

const TABLES: &str = "
    CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT g FROM generate_series(1, 100) g;
    CREATE SCHEMA s; CREATE TABLE s.x (id int PRIMARY KEY); INSERT INTO s.x VALUES (1)";
const DB: &str = "postgres";

#[test]
fn it_goes_there_and_back_and_its_journal_stays() {
    let pair = Pair::alone(14, 18);
    let names = Names {
        db: DB.to_owned(),
        ..pair.names().clone()
    };
    pair.moves(&names);
    pair.configure(|config| {
        let publication = config["publications"][DB].as_mapping_mut();
        publication
            .expect("a mapping")
            .remove("replica_identity_full_tables");
        for side in ["publisher", "subscriber"] {
            let conn = &mut config["hosts"][side]["conn"];
            conn["db_owner"] = conn["superuser"].clone();
            conn["db_owner_password"] = conn["superuser_password"].clone();
        }
        config["cutover"]["app_users"] = vec![pair.publisher().superuser()].into();
    });
    let (sub, publisher, subscriber) = (&names.subname, pair.publisher(), pair.subscriber());
    publisher.sql(DB, TABLES);
    let of_everything = format!("CREATE PUBLICATION \"{}\" FOR ALL TABLES", names.pubname);
    publisher.sql(DB, &of_everything);
    pair.flare(&["preflight", DB])
        .code(3)
        .prints("publication_journal")
        .prints("DROP PUBLICATION");
    pair.flare(&["create_publication", DB])
        .fails_with("would send flare's journal");
    publisher.sql(DB, &format!("DROP PUBLICATION \"{}\"", names.pubname));

    pair.flare(&["prepare", sub, "--yes"]).ok();
    let value = |server: &crate::support::Cluster| {
        server.value(DB, "SELECT count(*) || ' ' || max(id) FROM t")
    };
    for (command, to, rows) in [
        ("cutover", subscriber, "101 101"),
        ("fallback", publisher, "102 102"),
        ("cutover", subscriber, "103 103"),
    ] {
        pair.flare(&["verify_data", sub]).ok();
        pair.flare(&[command, sub, "--yes"]).ok();
        to.sql(DB, "INSERT INTO t (v) VALUES ('new')");
        assert_eq!(value(to), rows);
        // By this a client with both addresses finds its server.
        for server in [publisher, subscriber] {
            let is_left = !std::ptr::eq(server, to);
            let default = server.value(DB, "SHOW default_transaction_read_only");
            // What such a trigger writes under apply would stop it.
            let exempt = "SELECT count(*) FROM pg_trigger WHERE tgenabled = 'R'";
            let is_left = is_left && server.value(DB, exempt) == "0";
            assert_eq!(default == "on", is_left, "{command}");
        }
        if command == "fallback" {
            let trigger = "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
                 CREATE TRIGGER noted BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION noted(); ALTER TABLE t ENABLE REPLICA TRIGGER noted";
            for server in [publisher, subscriber] {
                server.sql(DB, &format!("BEGIN READ WRITE; {trigger}; COMMIT"));
            }
        }
    }
    pair.flare(&["cleanup", sub, "--yes"]).ok();
    for server in [publisher, subscriber] {
        let left = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('flare') OR relname LIKE 'flare%'";
        assert_eq!(server.value(DB, left), "0");
    }
}
