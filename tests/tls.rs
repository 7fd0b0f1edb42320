//! TLS as libpq means each sslmode: for flare's own sessions, the tools it runs, and the subscription.

use std::path::Path;
use std::sync::Arc;

use serde_yaml::Value;

use crate::support::certificates::{Authority, Flaw};
use crate::support::output::Output;
use crate::support::{Cluster, Pair};

/// A pair whose servers speak TLS with certificates of one authority, reached under the name `localhost`.
fn encrypted(old: u32, new: u32, authority: &Authority, flaw: Flaw) -> Pair {
    let servers = [old, new].map(|version| Cluster::private(version, &[]));
    for server in &servers {
        authority.install(server, flaw);
    }
    let [publisher, subscriber]: [Arc<Cluster>; 2] = servers;
    // Of the client programs, those of 17 are built with TLS.
    let pair = Pair::between(publisher, subscriber).clients(17);
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            let conn = conn(config, side);
            conn["host"] = "localhost".into();
            conn["hostaddr"] = "127.0.0.1".into();
        }
        conn(config, "publisher")["host_via_subscriber"] = "localhost".into();
    });
    pair
}

fn conn<'c>(config: &'c mut Value, side: &str) -> &'c mut Value {
    &mut config["hosts"][side]["conn"]
}

fn verify(pair: &Pair, sslmode: &str, root: Option<&Path>) -> Output {
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            let conn = conn(config, side);
            conn["sslmode"] = sslmode.into();
            match root {
                Some(root) => conn["sslrootcert"] = root.to_str().expect("UTF-8").into(),
                None => {
                    conn.as_mapping_mut()
                        .expect("a mapping")
                        .remove("sslrootcert");
                }
            }
        }
    });
    pair.flare(&["verify_connectivity", "--format", "json"])
}

fn version_of(output: &Output) -> String {
    let json = output.ok().json();
    let tls = |side: &str| json[side]["users"][0]["tls"].to_string();
    assert_eq!(tls("publisher"), tls("subscriber"), "{output}");
    tls("publisher")
}

#[test]
fn every_sslmode_means_what_libpq_means() {
    let authority = Authority::new("a root of tests");
    let stranger = Authority::new("another root");
    let pair = encrypted(14, 17, &authority, Flaw::None);
    let root = authority.root(pair.dir());
    let other = pair.dir().join("other");
    std::fs::create_dir(&other).expect("a directory");
    let other = stranger.root(&other);

    assert_eq!(version_of(&verify(&pair, "disable", None)), "null");
    for (sslmode, root) in [
        ("prefer", None),
        ("require", None),
        ("require", Some(&root)),
        ("verify-ca", Some(&root)),
        ("verify-full", Some(&root)),
    ] {
        let tls = version_of(&verify(&pair, sslmode, root.map(|root| root.as_path())));
        assert!(tls.starts_with("\"TLSv1."), "{sslmode}: {tls}");
    }
    for sslmode in ["require", "verify-ca", "verify-full"] {
        verify(&pair, sslmode, Some(&other))
            .code(1)
            .says("certificate");
    }
    verify(&pair, "verify-full", None)
        .code(2)
        .says("sslrootcert");
    verify(&pair, "verify-full", Some(&pair.dir().join("missing.crt")))
        .code(1)
        .says("missing.crt");
}

#[test]
fn a_certificate_for_another_host_is_refused_by_verify_full_alone() {
    let authority = Authority::new("a root of tests");
    let pair = encrypted(12, 16, &authority, Flaw::OtherHost);
    let root = authority.root(pair.dir());
    verify(&pair, "verify-ca", Some(&root)).ok();
    verify(&pair, "verify-full", Some(&root))
        .code(1)
        .says("localhost");
}

#[test]
fn an_expired_certificate_is_refused_where_it_is_looked_at() {
    let authority = Authority::new("a root of tests");
    let pair = encrypted(15, 15, &authority, Flaw::Expired);
    let root = authority.root(pair.dir());
    verify(&pair, "require", None).ok();
    for sslmode in ["verify-ca", "verify-full"] {
        verify(&pair, sslmode, Some(&root)).code(1).says("xpired");
    }
}

#[test]
fn a_server_without_tls_is_refused_unless_it_is_only_preferred() {
    let pair = Pair::new(13, 18);
    assert_eq!(version_of(&verify(&pair, "prefer", None)), "null");
    verify(&pair, "require", None).code(1).says("TLS");
}

#[test]
fn the_whole_way_is_verified_with_client_certificates() {
    let authority = Authority::new("a root of tests");
    let pair = encrypted(13, 16, &authority, Flaw::None).with_accounts(10);
    let root = authority.root(pair.dir());
    let (certificate, key) = authority.client("flare", pair.dir());
    // Whoever comes over TCP has to speak TLS; on the publisher, to show a certificate too.
    for (server, option) in [
        (pair.publisher(), " clientcert=verify-ca"),
        (pair.subscriber(), ""),
    ] {
        let option = if server.version() < 12 {
            " clientcert=1"
        } else {
            option
        };
        let access = format!(
            "local all all trust\nhostssl all {repl} 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256{option}\n",
            repl = pair.names().repl
        );
        std::fs::write(server.data_dir().join("pg_hba.conf"), access).expect("write pg_hba.conf");
        server.reload();
    }
    verify(&pair, "verify-full", Some(&root))
        .code(1)
        .says("certificate");
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            let conn = conn(config, side);
            conn["sslcert"] = certificate.to_str().expect("UTF-8").into();
            conn["sslkey"] = key.to_str().expect("UTF-8").into();
        }
        let publisher = conn(config, "publisher");
        // The subscription's connection is made by the subscriber's server, which reads files of its own.
        let readable = pair.subscriber().data_dir().join("root.crt");
        publisher["sslrootcert_via_subscriber"] = readable.to_str().expect("UTF-8").into();
    });
    let db = pair.db();
    assert!(version_of(&verify(&pair, "verify-full", Some(&root))).starts_with("\"TLSv1."));
    for command in [
        &["replicate_roles"][..],
        &["grant_replication", db],
        &["replicate_schema", db],
        &["create_publication", db],
        &[
            "create_subscription",
            "--use-repl-user",
            "--wait",
            pair.subname(),
        ],
    ] {
        pair.flare(command).ok();
    }
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)";
    assert_eq!(pair.publisher().value("postgres", encrypted), "t");
    pair.await_caught_up();
    pair.flare(&["count", "--both", db, "pgbench_accounts"])
        .ok()
        .prints("subscriber 10");
}
