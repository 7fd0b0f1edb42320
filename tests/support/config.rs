//! The configuration file of a pair, spelled as the README spells it.

use super::Cluster;
use super::pair::{Names, Passwords};

pub fn text(publisher: &Cluster, subscriber: &Cluster, names: &Names) -> String {
    let Names {
        db,
        owner,
        repl,
        pubname,
        subname,
        ..
    } = names;
    let admin = quoted(Passwords::ADMIN);
    let owner_password = quoted(Passwords::OWNER);
    let repl_password = quoted(Passwords::REPL);
    format!(
        "\
hosts:
  publisher:
    conn:
      superuser: '{publisher_admin}'
      superuser_password: {admin}

      db_owner: '{owner}'
      db_owner_password: {owner_password}

      repl_user: '{repl}'
      repl_user_password: {repl_password}

      host: '{publisher_host}'
      host_via_subscriber: '{publisher_host}'

      port: '{publisher_port}'
      port_via_subscriber: '{publisher_port}'

      system_identifier: '{publisher_identifier}'
  subscriber:
    conn:
      superuser: '{subscriber_admin}'
      superuser_password: {admin}

      db_owner: '{owner}'
      db_owner_password: {owner_password}

      host: '{subscriber_host}'
      port: '{subscriber_port}'

      system_identifier: '{subscriber_identifier}'

publications:
  {db}:
    pubname: '{pubname}'
    replica_identity_full_tables:
      - pgbench_history

subscriptions:
  {subname}:
    dbname: '{db}'
    pubname: '{pubname}'
",
        publisher_admin = publisher.admin(),
        publisher_host = publisher.host(),
        publisher_port = publisher.port(),
        publisher_identifier = publisher.system_identifier(),
        subscriber_admin = subscriber.admin(),
        subscriber_host = subscriber.host(),
        subscriber_port = subscriber.port(),
        subscriber_identifier = subscriber.system_identifier(),
    )
}

/// A YAML string in single quotes, in which only the quote itself is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
