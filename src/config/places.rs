//! Where each key belongs: read from the configuration that has all of them.

use std::path::Path;

use super::build;
use super::source::Source;
use super::tree::{Node, Value};

const EVERY_KEY: &str = include_str!("../../fixtures/full.yml");

/// Mappings whose keys are the user's names, with what their keys stand for.
const NAMED: [(&str, &str); 2] = [("publications", "DB"), ("subscriptions", "SUB")];

/// A key of more sections than these, such as `env`, is no help.
const AT_MOST: usize = 2;

/// `; "key" belongs in a.b` for a key that is unknown in section `here` and known in others; or nothing.
pub(super) fn belongs(key: &str, here: &str) -> String {
    let source = Source::new(Path::new("fixtures/full.yml"));
    let mut places = Vec::new();
    if let Some(root) = build::read(EVERY_KEY, &source) {
        collect(&root, "", key, &mut places);
    }
    places.dedup();
    let beside = |place: &&String| {
        !here.is_empty() && (place.starts_with(here) || here.starts_with(place.as_str()))
    };
    // One that leads on from here, or here from it, was meant.
    let near: Vec<&String> = places.iter().filter(beside).collect();
    let meant = if near.is_empty() {
        places.iter().collect()
    } else {
        near
    };
    let meant: Vec<String> = meant.into_iter().map(|it| shown(it)).collect();
    if meant.is_empty() || meant.len() > AT_MOST {
        String::new()
    } else {
        format!("; {key:?} belongs {}", meant.join(" or "))
    }
}

fn shown(path: &str) -> String {
    match path {
        "" => "at the top of the file".to_owned(),
        path => format!("in {path}"),
    }
}

fn collect(node: &Node, path: &str, key: &str, places: &mut Vec<String>) {
    match &node.value {
        Value::Map(entries) => {
            let stands_for = NAMED.iter().find(|(named, _)| *named == path);
            for entry in entries {
                let name = match stands_for {
                    Some((_, word)) => word,
                    None if entry.key.starts_with("x-") => continue,
                    None => entry.key.as_str(),
                };
                if stands_for.is_none() && entry.key == key {
                    places.push(path.to_owned());
                }
                let below = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}.{name}")
                };
                collect(&entry.value, &below, key, places);
            }
        }
        Value::List(items) => {
            for item in items {
                collect(item, path, key, places);
            }
        }
        Value::Null | Value::Text(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_wrong_place_is_told_where_it_belongs() {
        for (key, here, told) in [
            ("ddl", "publications.shop", "at the top of the file"),
            (
                "status_schema",
                "publications.shop",
                "at the top of the file",
            ),
            ("options", "publications.shop", "in subscriptions.SUB"),
            ("leave_behind", "cutover", "in publications.DB"),
            (
                "streaming",
                "subscriptions.s",
                "in subscriptions.SUB.options",
            ),
            ("repl_user", "hosts.subscriber", "in hosts.subscriber.conn"),
            ("bytes", "lag", "in lag.warning or in lag.critical"),
            ("wal_disk", "lag.critical", "in lag"),
            ("app_users", "", "in cutover"),
            (
                "host_via_subscriber",
                "hosts.subscriber.conn",
                "in hosts.publisher.conn",
            ),
        ] {
            assert_eq!(
                belongs(key, here),
                format!("; {key:?} belongs {told}"),
                "{key} in {here}"
            );
        }
        for key in ["env", "x-conn", "shop", "bench", "zebra"] {
            assert_eq!(belongs(key, "lag"), "", "{key}");
        }
    }
}
