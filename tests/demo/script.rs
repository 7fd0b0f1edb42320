//! What is played, in order.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bold;
use crate::stage::{NEW, OLD, Stage};
use crate::support::{Cluster, wait};

/// How long the application writes between two steps, so that the picture shows it.
const A_WHILE: Duration = Duration::from_secs(3);

pub fn play() -> Result<(), String> {
    let begun = Instant::now();
    println!(
        "{}",
        bold(&format!(
            "flare moves a live database from PostgreSQL {OLD} to {NEW} and back, on this machine, in about a minute"
        ))
    );
    println!("Fetching the two servers (the first time only) and starting them ...");
    let stage = Stage::set()?;
    println!(
        "The old server, the publisher: PostgreSQL {OLD} on port {}. The new one, the subscriber: {NEW} on port {}.\nEach password is its user's name.",
        stage.old.port(),
        stage.new.port()
    );
    furnish(&stage)?;
    prepare(&stage)?;
    let mut summary = there_and_back(&stage)?;
    summary.extend(prove(&stage)?);
    clean_up(&stage)?;
    println!("\n{}", bold("Summary"));
    for line in summary {
        println!("  {line}");
    }
    println!(
        "  all of it: {:.0} s. The servers and their files are going now.",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What somebody who wants to move a database has already.
fn furnish(stage: &Stage) -> Result<(), String> {
    stage.old.sql(
        "postgres",
        "CREATE ROLE app LOGIN PASSWORD 'app';
         CREATE ROLE dbowner LOGIN CREATEDB PASSWORD 'dbowner';
         CREATE ROLE repl LOGIN REPLICATION PASSWORD 'repl';",
    );
    let old = stage.old.port();
    stage.run(
        "The old server gets a database with the tables of an application:",
        &format!(
            "flare create_attack_db --app-user app --base-dsn postgres://dbowner:dbowner@127.0.0.1:{old}"
        ),
    )?;
    stage.old.sql(
        "flare_test",
        "CREATE EXTENSION pgcrypto;
         SET ROLE dbowner;
         CREATE TABLE orders (id bigserial PRIMARY KEY, item text NOT NULL, at timestamptz DEFAULT now());
         GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app;
         GRANT USAGE ON SEQUENCE orders_id_seq TO app;
         INSERT INTO orders (item) SELECT gen_random_uuid() FROM generate_series(1, 20000);",
    );
    println!("It also has an extension, and a table orders with 20,000 rows and a sequence.");
    let config = configuration(stage);
    stage.write_private("flare.yml", &config)?;
    println!(
        "\nThe configuration alone says which servers are meant. flare refuses any other.\n{}\n{config}",
        bold("$ cat flare.yml")
    );
    Ok(())
}

fn configuration(stage: &Stage) -> String {
    let (old, new) = (&stage.old, &stage.new);
    format!(
        "\
hosts:
  publisher:
    conn:
      superuser: postgres
      superuser_password: postgres
      db_owner: dbowner
      db_owner_password: dbowner
      repl_user: repl
      repl_user_password: repl
      host: 127.0.0.1
      port: {}
      system_identifier: {}
  subscriber:
    conn:
      superuser: postgres
      superuser_password: postgres
      db_owner: dbowner
      db_owner_password: dbowner
      repl_user: repl                   # for the way back
      repl_user_password: repl
      host: 127.0.0.1
      port: {}
      system_identifier: {}

publications:
  flare_test:
    pubname: flare_test-pub

subscriptions:
  flare_test1:
    dbname: flare_test
    pubname: flare_test-pub
",
        old.port(),
        old.system_identifier(),
        new.port(),
        new.system_identifier()
    )
}

/// Everything up to the cutover, while the application writes.
fn prepare(stage: &Stage) -> Result<(), String> {
    stage.run(
        "Can every user log in, and is each server the declared one?",
        "flare verify_connectivity",
    )?;
    let application = stage.start(
        "From now on the application writes, and keeps a ledger of what was acknowledged:",
        &attack(&[&stage.old], ""),
    )?;
    stage.run(
        "Everything up to the cutover, in one command; each of its steps is a command of its own, too. (What it says on the\nway goes to a file here.)",
        "flare prepare flare_test1 --yes 2> prepare.log",
    )?;
    stage.run(
        "Who can write where, how far is it, and what comes next?",
        "flare status",
    )?;
    application.end("Has the application noticed anything?")?;
    Ok(())
}

/// The application writes; its database moves under it, and back again.
fn there_and_back(stage: &Stage) -> Result<Vec<String>, String> {
    let more = format!("--plot {}", Stage::PICTURE);
    let application = stage.start(
        "It is started again, now with both addresses, goes on with its ledger, and draws a picture in the end:",
        &attack(&[&stage.old, &stage.new], &more),
    )?;
    stage.run(
        "So is psql: any client of libpq takes a list of hosts, and with this attribute goes to the one that lets it write:",
        &psql(stage),
    )?;
    sleep(A_WHILE);
    stage.run(
        "Is every row on both sides, while all this is written?",
        "flare verify_data flare_test1",
    )?;
    stage.run("And every object?", "flare verify_schema flare_test1")?;
    let there = stage.run(
        "The cutover: shut the old server, wait for the last row, carry the sequences over, open the new one, and keep the\nold one following. If it is not done in 10 s, or if flare dies, it is undone.",
        "flare cutover flare_test1 --yes",
    )?;
    stage.run(
        "The application has found the new server by itself. The old one is closed: it answers, read-only.",
        "flare status",
    )?;
    stage.run("The same psql, the same list:", &psql(stage))?;
    sleep(A_WHILE);
    let back = stage.run(
        "Something is wrong with the new version? Back again, with everything that was written there:",
        "flare fallback flare_test1 --yes",
    )?;
    stage.run("And where are we now?", "flare status")?;
    stage.run("And psql?", &psql(stage))?;
    stage.run(
        "Row by row, after the way back, under the writing application again:",
        "flare verify_data flare_test1",
    )?;
    sleep(A_WHILE);
    let saw = application.end("And this time? 57P01 is a session that was ended, 42501 a server that lets nobody in; the longest gap is the longer pause:")?;
    let picture = stage.keep_picture()?;
    println!("A picture of it, both pauses and the longer one from near by: {picture}");
    Ok(vec![
        format!("cutover: {}", line_of(&there, "paused for")?),
        format!("fallback: {}", line_of(&back, "paused for")?),
        format!(
            "as the application saw it: {}",
            line_of(&saw, "longest gap")?
        ),
        format!("the picture: {picture}"),
    ])
}

/// The ledger against both servers.
fn prove(stage: &Stage) -> Result<Vec<String>, String> {
    let on_old = verify(
        stage,
        "Is every acknowledged write on the old server, those that went to the new one included, and nothing else?",
        &dsn(&stage.old, "app"),
    )?;
    await_the_rest(stage)?;
    let on_new = verify(
        stage,
        "The new server follows again. Is everything there as well? (It is closed, so postgres looks.)",
        &dsn(&stage.new, "postgres"),
    )?;
    stage.run(
        "And the table that was there before the application began:",
        "flare count --both flare_test orders",
    )?;
    stage.new.sql(
        "flare_test",
        "BEGIN; SET LOCAL session_replication_role = replica; SET TRANSACTION READ WRITE;
         UPDATE orders SET item = item || '!' WHERE id = 4711; DELETE FROM orders WHERE id = 11; COMMIT",
    );
    let planted = stage.run(
        "Somebody changes one row on the new server and deletes another, past the fence. Found?",
        "sh -c 'flare verify_data flare_test1 --table orders; test $? = 3'",
    )?;
    if !planted.contains("2 ROWS DIFFER") {
        return Err(format!("the two rows were not found: {planted}"));
    }
    Ok(vec![
        format!("the ledger against the publisher: {on_old}"),
        format!("the ledger against the subscriber: {on_new}"),
    ])
}

/// Replays the ledger against a server; the verdict.
fn verify(stage: &Stage, why: &str, dsn: &str) -> Result<String, String> {
    let line = format!("flare verify_attack --ledger ledger.jsonl --dsn {dsn}");
    let said = stage.run(why, &line)?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}

fn clean_up(stage: &Stage) -> Result<(), String> {
    stage.run(
        "A migration would cut over once more and stay there. The demo ends here. What flare has put on the servers goes:",
        "flare cleanup flare_test1 --yes",
    )?;
    Ok(())
}

fn attack(servers: &[&Cluster], more: &str) -> String {
    let dsns = servers.iter().map(|server| dsn(server, "app"));
    let dsns: Vec<String> = dsns.map(|dsn| format!("--dsn {dsn} ")).collect();
    let line = format!(
        "flare attack {}--clients 4 --rate 1000 --ledger ledger.jsonl {more}",
        dsns.concat()
    );
    line.trim_end().to_owned()
}

/// Writes a row where it may, and says where that was.
fn psql(stage: &Stage) -> String {
    let (old, new) = (stage.old.port(), stage.new.port());
    format!(
        "psql -XAtq 'postgres://app:app@127.0.0.1:{old},127.0.0.1:{new}/flare_test?target_session_attrs=read-write' -c \"INSERT INTO orders (item) VALUES ('psql') RETURNING 'row ' || id || ' is on port ' || inet_server_port()\""
    )
}

fn dsn(server: &Cluster, user: &str) -> String {
    let port = server.port();
    format!("postgres://{user}:{user}@127.0.0.1:{port}/flare_test")
}

/// The line that begins with these words, without the steps or the time of day.
fn line_of(said: &str, beginning: &str) -> Result<String, String> {
    let line = said.lines().find(|line| line.starts_with(beginning));
    let line = line.ok_or_else(|| format!("nothing begins with {beginning:?} in {said:?}"))?;
    let end = [" (from", ": guard"]
        .iter()
        .filter_map(|it| line.find(it))
        .min();
    Ok(line[..end.unwrap_or(line.len())].to_owned())
}

/// Until the subscriber has confirmed what the publisher has written.
fn await_the_rest(stage: &Stage) -> Result<(), String> {
    let written = stage.old.value("flare_test", "SELECT pg_current_wal_lsn()");
    let confirmed = format!(
        "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{written}'), false) FROM pg_replication_slots"
    );
    let arrived = wait::until(Duration::from_secs(30), || {
        stage.old.value("flare_test", &confirmed) == "t"
    });
    if arrived {
        Ok(())
    } else {
        Err("the subscriber did not catch up within 30 s".into())
    }
}
