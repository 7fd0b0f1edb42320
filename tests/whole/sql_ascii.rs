//! Bytes without an encoding are carried as they are.

use super::traces::set_up;
use crate::support::{Cluster, Pair};

#[test]
#[ignore = "make soak"]
fn text_that_is_no_text_goes_there_and_back() {
    let pair = Pair::new(10, 18);
    let (db, sub, publisher) = (pair.db(), pair.subname(), pair.publisher());
    pair.create_roles_on(pair.subscriber());
    publisher.sql("postgres", &format!("DROP DATABASE {db}"));
    publisher.sql(
        "postgres",
        &format!(
            "CREATE DATABASE {db} OWNER {} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
            pair.names().owner
        ),
    );
    let insert = |id: i32| {
        format!(
            r#"INSERT INTO t VALUES ({id}, E'caf\351 \200\377 \303\251', E'{{"\351"}}'::text[])"#
        )
    };
    publisher.sql(
        db,
        &format!(
            r"CREATE TABLE t (id int PRIMARY KEY, w text, a text[]); {}; CREATE TABLE keyed (k text PRIMARY KEY, w int);
              INSERT INTO keyed SELECT E'k\351 ' || i, i FROM generate_series(1, 3000) i;
              CREATE TABLE keyless (w text); INSERT INTO keyless VALUES (E'\351'), (E'\352')",
            insert(1)
        ),
    );
    pair.configure(|config| {
        let publication = config["publications"][db].as_mapping_mut();
        publication.expect("a mapping").insert(
            "replica_identity_full_tables".into(),
            vec!["keyless"].into(),
        );
    });
    let bytes = |server: &Cluster| {
        server.value(db, "SELECT string_agg(encode(convert_to(w || a[1], 'SQL_ASCII'), 'hex'), ' ' ORDER BY id) FROM t")
    };
    set_up(&pair);
    publisher.sql(db, &insert(2));
    pair.flare(&["verify_data", sub])
        .ok()
        .prints("public.t: 2 rows equal");
    pair.flare(&["cutover", sub, "--yes"]).ok();
    assert_eq!(bytes(pair.subscriber()), bytes(publisher));
    pair.subscriber().sql(db, &insert(3));
    pair.flare(&["fallback", sub, "--yes"]).ok();
    let all = bytes(publisher);
    assert_eq!(all.split(' ').count(), 3);
    assert_eq!(all, bytes(pair.subscriber()));
    let other = "SET session_replication_role = replica; SET default_transaction_read_only = off;
        UPDATE keyed SET w = 0 WHERE k LIKE '% 2999'; UPDATE t SET w = E'caf\\351 \\200\\376 \\303\\251' WHERE id = 2";
    pair.subscriber().sql(db, other);
    pair.flare(&["verify_data", sub])
        .code(3)
        .prints("public.t: 1 ROW DIFFERS of 3")
        .prints("public.keyed: 1 ROW DIFFERS of 3000")
        .prints("public.keyless: 2 rows equal");
    pair.flare(&["cleanup", sub, "--yes"]).ok();
}
