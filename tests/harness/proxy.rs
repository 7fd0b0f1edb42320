//! A proxy that holds bytes back, loses answers, and cuts.

use std::sync::mpsc;
use std::time::Duration;

use super::LIMIT;
use crate::support::pair::Passwords;
use crate::support::proxy::Proxy;
use crate::support::{Cluster, wait};

#[test]
fn a_proxy_holds_bytes_back_and_lets_them_go() {
    const SOON: Duration = Duration::from_millis(300);
    let server = Cluster::publisher(16);
    let proxy = Proxy::to(server.port());
    let connect = || {
        postgres::Config::new()
            .host("127.0.0.1")
            .port(proxy.port())
            .user("postgres")
            .password(Passwords::ADMIN)
            .connect(postgres::NoTls)
    };
    let mut session = connect().expect("a session by way of the proxy");
    let pid: i32 = session
        .query_one("SELECT pg_backend_pid()", &[])
        .expect("an answer by way of the proxy")
        .get(0);
    let at_work_on = |what: &str| {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND query LIKE '%{what}'"
        );
        server.value("postgres", &query) == "1"
    };
    let (say, answers) = mpsc::channel();
    let (asks, hear) = mpsc::channel::<&str>();
    std::thread::spawn(move || {
        for query in hear {
            let _ = say.send(session.batch_execute(query).is_ok());
        }
    });

    proxy.freeze();
    asks.send("SELECT 1 -- frozen").expect("ask");
    assert!(answers.recv_timeout(SOON).is_err());
    assert!(!at_work_on("-- frozen"));
    proxy.thaw();
    assert_eq!(answers.recv_timeout(LIMIT), Ok(true));

    proxy.lose_answers();
    asks.send("SELECT 2 -- unheard").expect("ask");
    wait::for_("the statement to arrive", LIMIT, || {
        at_work_on("-- unheard")
    });
    assert!(answers.recv_timeout(SOON).is_err());
    proxy.thaw();
    assert_eq!(answers.recv_timeout(LIMIT), Ok(true));

    proxy.cut();
    asks.send("SELECT 3").expect("ask");
    assert_eq!(answers.recv_timeout(LIMIT), Ok(false));
    assert!(connect().is_err());
    proxy.mend();
    connect().expect("a session after the cut");
}
