//! Servers and pairs of them: versions, logins, locales, and what is done to them.

use std::time::Duration;

use crate::support::cluster::Flavour;
use crate::support::pair::Passwords;
use crate::support::{Cluster, Pair, matrix, process, wait};

#[test]
fn pairs_of_versions_are_parsed() {
    assert_eq!(matrix::parse("10-18, 16-17"), Ok(vec![(10, 18), (16, 17)]));
    assert_eq!(matrix::parse("all").expect("all").len(), 45);
    assert!(matrix::parse("9-10").is_err());
    let sample = matrix::parse(" ").expect("a sample");
    for version in matrix::VERSIONS {
        let plays = |(old, new): &(u32, u32)| *old == version || *new == version;
        assert!(sample.iter().any(plays));
    }
}

#[test]
fn each_pair_of_versions_starts_and_replicates() {
    matrix::for_each_pair(|old, new| {
        let pair = Pair::new(old, new).with_accounts(100).replicating();
        let (publisher, subscriber) = (pair.publisher(), pair.subscriber());
        for (server, version) in [(publisher, old), (subscriber, new)] {
            let number = server.value(pair.db(), "SHOW server_version_num");
            assert_eq!(number.parse::<u32>().expect("a number") / 10_000, version);
        }
        assert_ne!(
            publisher.system_identifier(),
            subscriber.system_identifier()
        );

        publisher.sql(
            pair.db(),
            "UPDATE pgbench_accounts SET abalance = 7 WHERE aid > 90",
        );
        pair.await_caught_up();
        let sum = "SELECT sum(abalance) FROM pgbench_accounts";
        assert_eq!(subscriber.value(pair.db(), sum), "70");
    });
}

#[test]
fn servers_of_one_version_differ() {
    let (publisher, subscriber) = (Cluster::publisher(18), Cluster::subscriber(18));
    assert_ne!(
        publisher.system_identifier(),
        subscriber.system_identifier()
    );
    assert_eq!(
        publisher.system_identifier(),
        Cluster::publisher(18).system_identifier()
    );
}

#[test]
fn a_private_server_has_the_locale_it_is_given() {
    let server = Cluster::private_with(16, &["--locale=C.UTF-8"], &[]);
    let locale = "SELECT datcollate FROM pg_database WHERE datname = 'postgres'";
    assert_eq!(server.value("postgres", locale), "C.UTF-8");
    let length = "SELECT length(rolpassword) > 100 FROM pg_authid WHERE rolname = 'postgres'";
    assert_eq!(server.value("postgres", length), "t");
}

#[test]
fn pairs_leave_shared_servers_as_they_were() {
    let (publisher, subscriber) = (Cluster::publisher(17), Cluster::subscriber(18));
    let id = {
        let pair = Pair::new(17, 18).with_accounts(10).replicating();
        pair.names().id.clone()
    };
    for server in [publisher, subscriber] {
        for query in [
            "SELECT datname FROM pg_database",
            "SELECT rolname FROM pg_roles",
            "SELECT slot_name FROM pg_replication_slots",
            "SELECT subname FROM pg_subscription",
        ] {
            let names: Vec<String> = server
                .rows("postgres", query)
                .into_iter()
                .filter_map(|mut row| row.pop().flatten())
                .collect();
            let left: Vec<_> = names.iter().filter(|name| name.starts_with(&id)).collect();
            assert!(left.is_empty(), "{left:?} is left on {server:?}");
        }
    }
}

#[test]
fn clients_log_in_with_their_password_only() {
    let pair = Pair::new(17, 18);
    let (publisher, names) = (pair.publisher(), pair.names());
    for (user, password) in [
        (publisher.admin(), Passwords::ADMIN),
        (names.app.as_str(), Passwords::APP),
        (names.owner.as_str(), Passwords::OWNER),
        (names.repl.as_str(), Passwords::REPL),
    ] {
        let login = publisher.connect(pair.db(), user, password);
        assert!(login.is_ok(), "{user}: {:?}", login.err());
        let login = publisher.connect(pair.db(), user, "another");
        assert!(login.is_err(), "{user} may log in with any password");
    }
    for address in [
        publisher.url(pair.db(), &names.app, Passwords::APP),
        publisher.conninfo(pair.db(), &names.app, Passwords::APP),
    ] {
        let login = postgres::Client::connect(&address, postgres::NoTls);
        assert!(login.is_ok(), "{address}: {:?}", login.err());
    }
}

#[test]
fn rds_administrator_is_no_superuser() {
    for version in [10, 18] {
        let server = Cluster::private_rds(version, &[]);
        assert_eq!(server.flavour(), Flavour::Rds);
        let mut master = server
            .connect("postgres", server.admin(), Passwords::ADMIN)
            .expect("log in as the administrator");
        let denied = master
            .simple_query("SELECT rolpassword FROM pg_authid")
            .expect_err("only a superuser sees passwords");
        assert_eq!(denied.code().expect("an answer").code(), "42501");
        master
            .simple_query("CREATE ROLE somebody; CREATE TABLE own ()")
            .err();
        assert_eq!(
            server.value(
                "postgres",
                "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolsuper"
            ),
            "rdsadmin"
        );
    }
}

#[test]
fn rds_pairs_start() {
    let pair = Pair::rds(15, 18).with_accounts(10).replicating();
    let count = "SELECT count(*) FROM pgbench_accounts";
    assert_eq!(pair.subscriber().value(pair.db(), count), "10");
}

#[test]
fn a_private_server_stops_starts_freezes_and_is_killed() {
    let server = Cluster::private(18, &[("fsync", "on"), ("max_connections", "23")]);
    assert_eq!(server.value("postgres", "SHOW fsync"), "on");
    assert_eq!(server.value("postgres", "SHOW max_connections"), "23");
    let identifier = server.system_identifier();

    server.configure(&[("work_mem", "5MB")]);
    server.reload();
    assert_eq!(server.value("postgres", "SHOW work_mem"), "5MB");

    server.stop();
    assert!(server.try_rows("postgres", "SELECT 1").is_err());
    server.start();

    let children = process::children_of(server.postmaster_pid());
    server.kill_9();
    assert!(!children.iter().any(|pid| process::is_running(*pid)));
    server.start();
    assert!(server.log().contains("was interrupted"), "{}", server.log());

    server.freeze();
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| server.system_identifier());
        let early = wait::until(Duration::from_millis(300), || answer.is_finished());
        assert!(!early, "a frozen server answered");
        server.thaw();
        assert_eq!(answer.join().expect("an answer"), identifier);
    });
}
