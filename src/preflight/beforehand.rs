//! What the subscriber's database holds before a subscription or a copy of flare's fills it.

use super::family::published::covered;
use super::finding::Finding;
use super::view::View;
use crate::catalog::{objects, tables};
use crate::error::Result;
use crate::server::{Login, Server, Session, params};
use crate::value::{ShellWord, TableName, parse_bool};

pub(super) const SUBSCRIBER_ROWS: &str = "subscriber_rows";
pub(super) const EMPTY: &str =
    "the subscriber's tables are empty where a subscription is to fill them";

/// Whether the database holds objects of somebody else's than flare, which the commands to come will meet.
pub(super) fn is_met(view: &View<'_>, publisher: &Server, to: &Session) -> Result<bool> {
    if view.subscribed || view.is_back() {
        return Ok(false);
    }
    let copying = "SELECT to_regclass('flare.copy_run') IS NOT NULL";
    let adopting = "SELECT to_regclass('flare.adopt') IS NOT NULL";
    Ok(!to.value::<bool>(copying, params![])?
        && !publisher.admin().value::<bool>(adopting, params![])?
        && objects::first_object(to)?.is_some())
}

/// Rows that the copy would collide with.
pub(super) fn rows(view: &View<'_>, subscriber: &Server, to: &Session) -> Result<Vec<Finding>> {
    let Some(moving) = view.moving else {
        return Ok(Vec::new());
    };
    let declared = moving
        .subname
        .and_then(|it| view.config.subscriptions.get(it));
    let copies = declared.and_then(|it| it.options.get("copy_data"));
    if copies.is_some_and(|value| parse_bool(value) == Some(false)) {
        return Ok(Vec::new());
    }
    let names: Vec<TableName> = covered(view)?.into_iter().map(|it| it.name).collect();
    let filled = if subscriber.facts().superuser {
        tables::not_empty(to, &names)?
    } else {
        tables::not_empty(
            &*subscriber.visit_as(Login::DbOwner, moving.dbname)?,
            &names,
        )?
    };
    Ok(in_the_way(&filled, moving.subname))
}

fn in_the_way(filled: &[TableName], subname: Option<&str>) -> Vec<Finding> {
    let Some(first) = filled.first() else {
        return Vec::new();
    };
    let theirs = subname.map_or_else(String::new, |subname| {
        format!(
            ", or copy_data: false in subscriptions.{}.options if they are the publisher's rows, or flare adopt if the server is a clone of it",
            ShellWord(subname)
        )
    });
    vec![
        Finding::blocker(
            "tables of the subscriber hold rows already: the copy would collide with them",
        )
        .objects(filled.iter().map(TableName::plain))
        .fix(format!("TRUNCATE {first} on the subscriber{theirs}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_with_what_empties_them() {
        assert!(in_the_way(&[], Some("app1")).is_empty());
        let found = &in_the_way(&["app.Order".parse().unwrap()], Some("app1"))[0];
        assert_eq!(found.objects, ["app.Order"]);
        let fix = found.fix.as_deref().unwrap();
        assert!(
            fix.starts_with(r#"TRUNCATE "app"."Order" on the subscriber, or copy_data"#),
            "{fix}"
        );
    }
}
