//! Bytes without an encoding are carried as they are.

use super::traces::set_up;
use crate::support::{Cluster, Pair};

#[test]
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
            "CREATE TABLE t (id int PRIMARY KEY, w text, a text[]); {}",
            insert(1)
        ),
    );
    pair.configure(|config| {
        let publication = config["publications"][db].as_mapping_mut();
        publication
            .expect("a mapping")
            .remove("replica_identity_full_tables");
    });
    let bytes = |server: &Cluster| {
        server.value(db, "SELECT string_agg(encode(convert_to(w || a[1], 'SQL_ASCII'), 'hex'), ' ' ORDER BY id) FROM t")
    };
    set_up(&pair);
    publisher.sql(db, &insert(2));
    pair.flare(&["cutover", sub, "--yes"]).ok();
    assert_eq!(bytes(pair.subscriber()), bytes(publisher));
    pair.subscriber().sql(db, &insert(3));
    pair.flare(&["fallback", sub, "--yes"]).ok();
    let all = bytes(publisher);
    assert_eq!(all.split(' ').count(), 3);
    assert_eq!(all, bytes(pair.subscriber()));
    pair.flare(&["cleanup", sub, "--yes"]).ok();
}
