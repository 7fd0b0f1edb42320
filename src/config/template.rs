//! A first configuration, with comments, from what two servers say about themselves. Pure; [`super::Config`] reads it back.

use std::fmt::Write;

use super::field::UNFILLED;
use crate::value::MAX_IDENT_BYTES;

/// A server as it was reached, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) system_identifier: String,
    pub(crate) version: String,
}

/// What there is to replicate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// The databases of the publisher that can be connected to.
    pub(crate) dbnames: Vec<String>,
    /// Their owner, when they have one in common.
    pub(crate) owner: Option<String>,
    /// The publisher's replication role, when there is only one.
    pub(crate) repl_user: Option<String>,
}

/// The configuration's text.
pub(crate) fn template(publisher: &Reached, subscriber: &Reached, content: &Content) -> String {
    let mut text = String::from(
        "# The configuration of one migration, written by `flare init_config`.\n\
         # Replace every CHANGE_ME, then run `flare verify_connectivity`.\n\
         # A password is text, {env: VARIABLE}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}.\n\n\
         hosts:\n",
    );
    let owner = content.owner.as_deref().unwrap_or(UNFILLED);
    let repl = content.repl_user.as_deref().unwrap_or(UNFILLED);
    for (role, server, suffix, other) in [
        ("publisher", publisher, "PUB", "subscriber"),
        ("subscriber", subscriber, "SUB", "publisher"),
    ] {
        let repl_comment = match role {
            "publisher" => "",
            _ => "# ",
        };
        let what = match role {
            "publisher" => "# Whom the subscriber replicates as.",
            _ => {
                "# Whom the publisher replicates as when the direction is reversed after the cutover."
            }
        };
        let Reached {
            host,
            port,
            user,
            system_identifier,
            version,
        } = server;
        let (host, user, owner, repl) = (quoted(host), quoted(user), quoted(owner), quoted(repl));
        // Writing to a String cannot fail.
        write!(
            text,
            "  {role}: # PostgreSQL {version}
    conn:
      # Creates publications and subscriptions; on Amazon RDS the master user.
      superuser: {user}
      superuser_password: {{env: PGPASSWORD_{suffix}}}

      # Owns the databases that move.
      db_owner: {owner}
      db_owner_password: {{env: PGPASSWORD_OWNER}}

      {what}
      {repl_comment}repl_user: {repl}
      {repl_comment}repl_user_password: {{env: PGPASSWORD_REPL}}

      host: {host}
      port: {port}

      # How the {other} reaches this server, where that is not host and port.
      # host_via_{other}: {host}
      # port_via_{other}: {port}

      # prefer is the default; verify-full with sslrootcert is what to use over networks.
      # sslmode: verify-full
      # sslrootcert: /path/to/root.pem

      # SELECT system_identifier FROM pg_control_system(): flare refuses any other server.
      system_identifier: '{system_identifier}'

"
        )
        .unwrap_or_default();
    }
    text.push_str("# Which databases are published, and as what.\npublications:\n");
    let dbnames = match content.dbnames.as_slice() {
        [] => &[UNFILLED.to_owned()][..],
        dbnames => dbnames,
    };
    for dbname in dbnames {
        let (dbname, pubname) = (quoted(dbname), quoted(&suffixed(dbname, "_pub")));
        write!(
            text,
            "  {dbname}:
    pubname: {pubname}
    # tables: [public.a, app.b]            # without it: all tables
    # replica_identity_full_tables: []     # tables without a key that are updated
    # allow_no_identity: []                # tables without a key that are only inserted into
    # leave_behind: []                     # what the cutover may leave on the old side: objects, large_objects
"
        )
        .unwrap_or_default();
    }
    text.push_str("\n# Which database subscribes to which publication.\nsubscriptions:\n");
    for dbname in dbnames {
        let (subname, pubname) = (suffixed(dbname, "_sub"), suffixed(dbname, "_pub"));
        let (subname, dbname, pubname) = (quoted(&subname), quoted(dbname), quoted(&pubname));
        write!(
            text,
            "  {subname}:\n    dbname: {dbname}\n    pubname: {pubname}\n"
        )
        .unwrap_or_default();
    }
    text.push_str(
        "
# Who is shut out during the pause, and for how long at most.
# cutover:
#   app_users: [app]
#   max_pause: 10s
",
    );
    text
}

/// A name made from a database's, no longer than PostgreSQL keeps.
fn suffixed(dbname: &str, suffix: &str) -> String {
    let mut end = dbname.len().min(MAX_IDENT_BYTES - suffix.len());
    while !dbname.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{suffix}", &dbname[..end])
}

/// A text as YAML wants it, on one line: in quotes unless it can be taken for nothing else. JSON's quotes and escapes are
/// YAML's too.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_word = |word: &&str| text.eq_ignore_ascii_case(word);
    if text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| plain(c) || c == '.' || c == '-')
        && !words.iter().any(is_word)
    {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn reached(system_identifier: &str) -> Reached {
        Reached {
            host: "db.example".into(),
            port: 5432,
            user: "postgres".into(),
            system_identifier: system_identifier.into(),
            version: "17.2".into(),
        }
    }

    fn read(content: &Content) -> Config {
        let text = template(&reached("7711450698225866494"), &reached("12"), content);
        let text = text.replace(UNFILLED, "shop");
        Config::parse(&text, Path::new("flare.yml"))
            .unwrap_or_else(|error| panic!("{}\n{text}", error.message()))
    }

    #[test]
    fn what_is_known_is_read_back() {
        let content = Content {
            dbnames: vec![
                "shop".into(),
                "My \"own\": #1".into(),
                "no".into(),
                "it's".into(),
                "two\nlines".into(),
                "- [a, {b: c}] &d *e !f %g @h `i`".into(),
                " 1e3 ".into(),
                "~".into(),
                "ä".repeat(31),
            ],
            owner: Some("owner's".into()),
            repl_user: Some("repl".into()),
        };
        let config = read(&content);
        assert_eq!(config.publisher.system_identifier, 7711450698225866494);
        assert_eq!(config.publisher.db_owner.user, "owner's");
        assert_eq!(config.publisher.repl.unwrap().user, "repl");
        assert!(config.subscriber.repl.is_none());
        assert!(config.publications.keys().eq(&content.dbnames));
        for subscription in config.subscriptions.values() {
            let publication = &config.publications[&subscription.dbname];
            assert_eq!(publication.pubname, subscription.pubname);
        }
    }

    #[test]
    fn what_is_not_known_is_to_be_changed() {
        let text = template(&reached("1"), &reached("2"), &Content::default());
        assert!(text.contains("db_owner: CHANGE_ME\n"));
        assert!(read(&Content::default()).publications.contains_key("shop"));
    }

    #[test]
    fn the_commented_lines_are_keys_that_exist() {
        let text = template(&reached("1"), &reached("2"), &Content::default());
        let uncommented: Vec<&str> = text.lines().collect();
        let uncommented: Vec<String> = uncommented
            .iter()
            .map(|line| match line.trim_start().strip_prefix("# ") {
                Some(rest)
                    if rest
                        .split_once(": ")
                        .is_some_and(|(key, _)| !key.contains(' '))
                        && line.starts_with(' ') =>
                {
                    line.replacen("# ", "", 1)
                }
                _ => (*line).to_owned(),
            })
            .collect();
        let text = uncommented
            .join("\n")
            .replace(UNFILLED, "shop")
            .replace("tables: [public.a, app.b]", "tables: [a]");
        let config = Config::parse(&text, Path::new("flare.yml"));
        assert!(config.is_ok(), "{:?}\n{text}", config.err());
    }
}
