use super::{altered, problems};

#[test]
fn wrong_values_are_named_with_their_place() {
    for (old, new, wanted) in [
        (
            "'6989310928239083265'",
            "'<identifier>'",
            "f.yml:19: hosts.publisher.conn.system_identifier: \"<identifier>\" is not a system identifier, which is a number; ask this server: SELECT system_identifier FROM pg_control_system()",
        ),
        (
            "'7104338501893425409'",
            "6989310928239083265",
            "f.yml:31: publisher and subscriber have the same system_identifier: they have to be two servers",
        ),
        (
            "'15432'",
            "65536",
            "f.yml:16: hosts.publisher.conn.port: \"65536\" is not a port (1 to 65535)",
        ),
        (
            "'15432'",
            "CHANGE_ME",
            "f.yml:16: hosts.publisher.conn.port: CHANGE_ME is still there; put the real value",
        ),
        (
            "'<PASSWORD>'",
            "CHANGE_ME",
            "f.yml:5: hosts.publisher.conn.superuser_password: CHANGE_ME is still there; put the real value",
        ),
        (
            "superuser: 'postgres'",
            "superuser: [postgres]",
            "f.yml:4: hosts.publisher.conn.superuser: is a list; text is expected",
        ),
        (
            "superuser: 'postgres'",
            "superuser: ''",
            "f.yml:4: hosts.publisher.conn.superuser: is empty",
        ),
        (
            "superuser: 'postgres'",
            "superusr: 'postgres'",
            "unknown key \"superusr\" in hosts.publisher.conn (did you mean \"superuser\"?)",
        ),
        (
            "- pgbench_history",
            "- pgbench_history\n    ddl: carry",
            "f.yml:38: unknown key \"ddl\" in publications.bench; \"ddl\" belongs at the top of the file",
        ),
        (
            "port: '15432'",
            "port: '15432'\n      sslmode: allow",
            "f.yml:17: hosts.publisher.conn.sslmode: \"allow\" is none of disable, prefer, require, verify-ca, verify-full",
        ),
        (
            "port: '15432'",
            "port: '15432'\n      sslcert: a",
            "f.yml:3: hosts.publisher.conn: sslcert needs sslkey beside it",
        ),
        (
            "repl_user_password: 'repl'",
            "",
            "f.yml:3: hosts.publisher.conn.repl_user_password is missing",
        ),
        (
            "host: 127.0.0.1",
            "host: a,b",
            "f.yml:28: hosts.subscriber.conn.host: \"a,b\" is not the name of one host",
        ),
        (
            "port: '35432'",
            "port: 1\n      port: 2",
            "f.yml:30: duplicate key \"port\" (first on line 29)",
        ),
        (
            "- pgbench_history",
            "- a.b.c",
            "f.yml:37: publications.bench.replica_identity_full_tables[0]: read the table name \"a.b.c\": it has more than two parts",
        ),
        (
            "- pgbench_history",
            "- a\n      - public.a",
            "f.yml:36: publications.bench.replica_identity_full_tables: names public.a twice",
        ),
        (
            "dbname: bench",
            "dbname:",
            "f.yml:41: subscriptions.bench1.dbname: has no value",
        ),
        (
            "dbname: bench",
            "options: {binary: [on]}",
            "f.yml:41: subscriptions.bench1.options.binary: is a list; text is expected",
        ),
        (
            "subscriptions:",
            "lag: {warning: {bytes: 2GB}}\nsubscriptions:",
            "f.yml:39: lag: bytes is critical before it is worth a warning",
        ),
        (
            "subscriptions:",
            "cutover: {max_pause: soon}\nsubscriptions:",
            "f.yml:39: cutover.max_pause: \"soon\" is not a duration like 10s or 1m30s",
        ),
        (
            "subscriptions:",
            "cutover: {hooks: {switch: now}}\nsubscriptions:",
            "f.yml:39: cutover.hooks.switch: is text; a list is expected",
        ),
        (
            "subscriptions:",
            "cutover: {poolers: [{database: b}]}\nsubscriptions:",
            "f.yml:39: cutover.poolers[0].admin.password is missing",
        ),
    ] {
        let found = problems(&altered(old, new));
        assert!(
            found.contains(wanted),
            "{new:?}\nwanted: {wanted}\nfound: {found}"
        );
    }
    let long = "x".repeat(64);
    let found = problems(&altered("bench1:", &format!("{long}:")));
    assert!(
        found.contains("the name \"xxx") && found.contains("longer than 63 bytes"),
        "{found}"
    );
}

#[test]
fn one_problem_stands_alone_and_several_together() {
    let one = problems(&altered(
        "superuser: 'postgres'",
        "superuser: 'postgres'\n      sslmod: require",
    ));
    assert_eq!(
        one,
        "f.yml:5: unknown key \"sslmod\" in hosts.publisher.conn (did you mean \"sslmode\"?)"
    );
    let text = altered("port: '15432'", "port: x").replace("port: '35432'", "port: y");
    assert!(problems(&text).starts_with("read f.yml: 2 problems\n  f.yml:16: "));
    for (text, lines) in [("a: 1", 15), ("hosts:", 14), ("text", 1), ("[]", 1)] {
        let found = problems(text);
        let placed = found
            .lines()
            .filter(|line| line.trim().starts_with("f.yml:"));
        assert_eq!(placed.count(), lines, "{text}: {found}");
    }
    assert!(problems("# nothing\n").ends_with("there is nothing in it"));
}
