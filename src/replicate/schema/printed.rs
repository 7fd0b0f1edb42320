//! The SQL of a whole database for psql, creation included: for whoever wants to read it, or to load it by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;

use super::Work;
use crate::config::Tools;
use crate::error::{Result, WrapErr};
use crate::replicate::Mode;
use crate::replicate::database::{self, Owner};
use crate::replicate::properties::Properties;
use crate::server::{Login, Pair};
use crate::tools::{WRITING, written};
use crate::value::Conninfo;

/// The SQL as it would be loaded into a new database, for psql.
pub(crate) fn print(pair: &Pair, tools: &Tools, dbname: &str, login: Login) -> Result<File> {
    let work = Work::read(pair, tools, dbname, login)?;
    let (publisher, subscriber) = (&pair.publisher, &pair.subscriber);
    let creation = database::create_statement(&work.source, subscriber.major(), Owner::Source)?;
    let properties = Properties::read(publisher, subscriber, &work.source)?.of_a_new_database();
    let properties = properties
        .plan(&properties.parameters(subscriber)?)
        .into_change(Mode::DryRun, false);
    let toolbox = work.toolbox(publisher.release())?;
    let dumped = work.dump(&toolbox, publisher, &[])?;
    let mut head = format!("{creation};\n");
    for done in &properties.statements {
        head.push_str(&format!("{};\n", done.sql));
    }
    head.push_str(&format!("\\connect {}\n\n", connection_to(dbname)));
    let (file, _) = written(|output| {
        output.write_all(head.as_bytes()).wrap_err(WRITING)?;
        work.rewrite(
            dumped,
            output,
            BTreeSet::from(["public".to_owned()]),
            BTreeMap::new(),
        )
    })?;
    Ok(file)
}

/// The argument of psql's `\connect`, as pg_dump writes it for names that are not plain.
fn connection_to(dbname: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if dbname.chars().all(plain) {
        dbname.to_owned()
    } else {
        let conninfo = Conninfo::new().with("dbname", dbname);
        format!(
            "-reuse-previous=on \"{}\"",
            conninfo.to_string().replace('"', "\"\"")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_not_plain_are_connected_to_by_a_connection_string() {
        assert_eq!(connection_to("shop_1"), "shop_1");
        assert_eq!(
            connection_to("it's \"A\""),
            r#"-reuse-previous=on "dbname='it\'s ""A""'""#
        );
    }
}
