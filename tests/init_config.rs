//! `init_config`: what it writes is a configuration.

use crate::support::Pair;
use crate::support::flare::Invocation;
use crate::support::pair::Passwords;

#[test]
fn the_result_works_once_change_me_is_replaced() {
    let pair = Pair::new(13, 18);
    let [publisher, subscriber] = [pair.publisher(), pair.subscriber()]
        .map(|server| server.url("postgres", server.admin(), Passwords::ADMIN));
    let args = [
        "init_config",
        "--publisher",
        &publisher,
        "--subscriber",
        &subscriber,
    ];
    let output = Invocation::new(&args)
        .secrets([Passwords::ADMIN.to_owned()])
        .run();
    output
        .ok()
        .prints("superuser_password: {env: PGPASSWORD_PUB}")
        .prints(pair.db());
    let config = output.stdout().replace("CHANGE_ME", &pair.names().owner);
    // Other tests' databases come and go, their names stay right.
    pair.write_config(&config);
    let passwords = [
        ("PGPASSWORD_PUB", Passwords::ADMIN),
        ("PGPASSWORD_SUB", Passwords::ADMIN),
        ("PGPASSWORD_OWNER", Passwords::OWNER),
        ("PGPASSWORD_REPL", Passwords::REPL),
    ];
    let exec = pair.flare_env(
        &passwords,
        &["exec", "--", "echo", "both are the declared ones"],
    );
    exec.ok().prints("both are the declared ones");
}

#[test]
fn one_server_is_not_two() {
    let pair = Pair::new(17, 18);
    let server = pair.publisher();
    let url = server.url("postgres", server.admin(), Passwords::ADMIN);
    let output = Invocation::new(&["init_config", "--publisher", &url, "--subscriber", &url]).run();
    output.code(1).fails_with("have the same system_identifier");
    assert_eq!(output.stdout(), "");
}
