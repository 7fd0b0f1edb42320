//! What is played, in order.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bold;
use crate::stage::{NEW, OLD, Stage};

const TABLES: [&str; 3] = ["items", "sessions", "orders"];

pub fn play() -> Result<(), String> {
    let begun = Instant::now();
    println!(
        "{}",
        bold(&format!(
            "flare moves a live database from PostgreSQL {OLD} to {NEW}, on this machine, in about a minute"
        ))
    );
    println!("Fetching the two servers (the first time only) and starting them ...");
    let stage = Stage::set()?;
    println!(
        "PostgreSQL {OLD} on port {}, PostgreSQL {NEW} on port {}. Each password is its user's name.",
        stage.old.port(),
        stage.new.port()
    );
    furnish(&stage)?;
    set_up(&stage)?;
    let proof = pause_and_compare(&stage)?;
    let gap = pause_alone(&stage)?;
    clean_up(&stage)?;
    println!("\n{}", bold("Summary"));
    for line in proof {
        println!("  {line}");
    }
    println!("  pause and resume without looking around in between: {gap}");
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

fn set_up(stage: &Stage) -> Result<(), String> {
    for (why, line) in [
        (
            "Can every user log in, and is each server the declared one?",
            "flare verify_connectivity",
        ),
        (
            "On the old server, the administrator may create a publication (on RDS it could not, otherwise):",
            "flare grant_create flare_test",
        ),
        (
            "... and the replication user may read the tables:",
            "flare grant_replication flare_test",
        ),
        (
            "The old server publishes:",
            "flare create_publication flare_test",
        ),
        (
            "The new server gets the roles, with their passwords:",
            "flare replicate_roles",
        ),
        (
            "... the database and its extensions:",
            "flare install_extensions flare_test",
        ),
        ("... and its schema:", "flare replicate_schema flare_test"),
    ] {
        stage.run(why, line)?;
    }
    Ok(())
}

/// The application writes, the subscription begins, writes are paused, both sides are compared.
fn pause_and_compare(stage: &Stage) -> Result<Vec<String>, String> {
    let application = stage.start(
        "The application writes from now on, with four clients, and keeps a ledger of what was acknowledged:",
        &attack(stage, "--ledger ledger.jsonl"),
    )?;
    stage.run(
        "The new server copies the tables and follows, while the application writes:",
        "flare create_subscription --use-repl-user --wait flare_test1",
    )?;
    stage.run(
        "A fresh copy has no statistics; without them its plans would be bad:",
        "flare vacuum_analyze flare_test",
    )?;
    stage.run(
        "How far is the new server behind?",
        "flare monitor flare_test flare_test1 --once",
    )?;
    sleep(Duration::from_secs(2));
    stage.run(
        "Now writes stop, and flare waits until the last one has arrived. (--allowed-rep-duration, since this replication\nis younger than the minute that is asked for otherwise.)",
        "flare pause_write flare_test --allowed-rep-duration 1s",
    )?;
    let mut proof = Vec::new();
    for table in TABLES {
        let said = stage.run(
            "Is everything there?",
            &format!("flare count --both flare_test {table}"),
        )?;
        let counts: Vec<&str> = said.split_whitespace().collect();
        let &["publisher", publisher, "subscriber", subscriber] = counts.as_slice() else {
            return Err(format!("count said {said:?}"));
        };
        if publisher != subscriber {
            return Err(format!(
                "{table} has {publisher} rows on the publisher and {subscriber} on the subscriber"
            ));
        }
        proof.push(format!("{table}: {publisher} rows on both sides"));
    }
    stage.run(
        "Replication carries no sequences, so their values are set:",
        "flare replicate_sequences flare_test1",
    )?;
    println!(
        "\nThis is the moment to point the application at the new server. The demo goes back instead:"
    );
    stage.run(
        "The application writes to the old server again, with its privileges exactly as they were:",
        "flare resume_write flare_test",
    )?;
    sleep(Duration::from_secs(1));
    application.end("The application ends; its longest gap holds all the looking around above:")?;
    await_the_rest(stage)?;
    let said = stage.run(
        "Is every acknowledged write on the new server, and nothing else?",
        &format!(
            "flare verify_attack --ledger ledger.jsonl --dsn postgres://app:app@127.0.0.1:{}/flare_test",
            stage.new.port()
        ),
    )?;
    proof.extend(said.lines().next().map(|line| format!("ledger: {line}")));
    Ok(proof)
}

/// The pause as short as it is; the longest gap that the application saw.
fn pause_alone(stage: &Stage) -> Result<String, String> {
    let application = stage.start(
        "How long is the pause by itself? The application once more ...",
        &attack(stage, ""),
    )?;
    sleep(Duration::from_secs(2));
    stage.run(
        "... and pause and resume at once:",
        "flare pause_write flare_test --allowed-rep-duration 1s && flare resume_write flare_test",
    )?;
    sleep(Duration::from_secs(1));
    let report = application.end("What the application saw:")?;
    let gap = report
        .lines()
        .find(|line| line.starts_with("longest gap"))
        .ok_or("attack reported no gap")?;
    Ok(gap.split(" (").next().unwrap_or(gap).to_owned())
}

fn clean_up(stage: &Stage) -> Result<(), String> {
    stage.run(
        "After a migration the subscription goes, and its slot on the old server with it:",
        "flare drop_subscription flare_test1",
    )?;
    stage.run(
        "... and the publication:",
        "flare drop_publication flare_test",
    )?;
    Ok(())
}

fn attack(stage: &Stage, more: &str) -> String {
    let port = stage.old.port();
    format!(
        "flare attack --dsn postgres://app:app@127.0.0.1:{port}/flare_test --clients 4 --rate 1000 {more}"
    )
    .trim_end()
    .to_owned()
}

/// Until the subscriber has confirmed what the publisher has written.
fn await_the_rest(stage: &Stage) -> Result<(), String> {
    let written = stage.old.value("flare_test", "SELECT pg_current_wal_lsn()");
    let confirmed = format!(
        "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{written}'), false) FROM pg_replication_slots"
    );
    let arrived = crate::support::wait::until(Duration::from_secs(30), || {
        stage.old.value("flare_test", &confirmed) == "t"
    });
    match arrived {
        true => Ok(()),
        false => Err("the subscriber did not catch up within 30 s".into()),
    }
}
