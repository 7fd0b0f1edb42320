//! The static program in a root that holds nothing but itself, `etc/hosts`, `etc/resolv.conf` and its configuration.
//!
//! `make static-test` builds the program and names it in `FLARE_STATIC`.

#[path = "../support/mod.rs"]
mod support;

mod names;
mod root;

use std::env;
use std::path::PathBuf;

use support::certificates::{Authority, Flaw};
use support::{Cluster, Pair};

use self::names::NameServer;
use self::root::Root;

/// A name that only the test's own name server knows.
const KNOWN_TO_DNS: &str = "db.flare.test";

fn program() -> PathBuf {
    let named = env::var_os("FLARE_STATIC").expect("run this with `make static-test`");
    PathBuf::from(named)
}

/// Both servers under this name, with this sslmode.
fn configure(pair: &Pair, root: &Root, host: &str, sslmode: &str) {
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            let conn = &mut config["hosts"][side]["conn"];
            let conn = conn.as_mapping_mut().expect("a mapping");
            conn.insert("host".into(), host.into());
            conn.insert("sslmode".into(), sslmode.into());
            if sslmode.starts_with("verify") {
                conn.insert("sslrootcert".into(), "/root.crt".into())
            } else {
                conn.remove("sslrootcert")
            };
        }
    });
    let text = std::fs::read_to_string(pair.config_path()).expect("read flare.yml");
    root.write("flare.yml", &text);
}

/// Every session of `verify_connectivity` is encrypted.
fn verify(pair: &Pair, root: &Root, host: &str, sslmode: &str) {
    configure(pair, root, host, sslmode);
    let output = root.run(&["verify_connectivity", "--format", "json"]);
    let json = output.ok().json();
    for side in ["publisher", "subscriber"] {
        let tls = json[side]["users"][0]["tls"].as_str();
        assert!(
            tls.is_some_and(|tls| tls.starts_with("TLSv1.")),
            "{host}, {sslmode}: {output}"
        );
    }
}

#[test]
fn it_needs_nothing_of_the_machine_it_runs_on() {
    let Some(root) = Root::new(&program()) else {
        println!("skipped: neither a user namespace nor root's chroot is to be had here");
        return;
    };
    root.run(&["--version"]).ok().prints("flare ");

    let authority = Authority::new("a root of tests");
    let servers = [14, 18].map(|version| Cluster::private(version, &[]));
    for server in &servers {
        authority.install(server, Flaw::None);
    }
    let [publisher, subscriber] = servers;
    let pair = Pair::between(publisher, subscriber);
    pair.configure(|config| {
        // The subscriber's server would look for the certificate outside the root.
        let config = config.as_mapping_mut().expect("a mapping");
        config.remove("subscriptions");
    });
    let certificate = std::fs::read_to_string(authority.root(pair.dir())).expect("read root.crt");
    root.write("root.crt", &certificate);
    root.write("etc/hosts", "127.0.0.1 localhost\n");

    verify(&pair, &root, "127.0.0.1", "require");
    verify(&pair, &root, "localhost", "require");
    verify(&pair, &root, "localhost", "verify-full");

    root.write("root.crt", &{
        let stranger = Authority::new("another root");
        std::fs::read_to_string(stranger.root(pair.dir())).expect("read root.crt")
    });
    root.run(&["verify_connectivity"])
        .code(1)
        .says("certificate");
    root.write("root.crt", &certificate);

    match NameServer::start(KNOWN_TO_DNS) {
        Ok(server) => {
            let address = format!("nameserver {}\noptions timeout:2\n", server.address());
            root.write("etc/resolv.conf", &address);
            verify(&pair, &root, KNOWN_TO_DNS, "require");
            verify(&pair, &root, KNOWN_TO_DNS, "verify-ca");
            // The servers' certificates are for localhost.
            configure(&pair, &root, KNOWN_TO_DNS, "verify-full");
            root.run(&["verify_connectivity"])
                .code(1)
                .says("certificate");
        }
        Err(error) => println!("skipped: names by DNS, no name server can be started: {error}"),
    }
}
