//! `verify_data` and `verify_schema`: what differs is found and named, and nothing else.

mod leftovers;
mod mended;
mod planted;
mod proof;
mod random;
mod schema;
mod traps;
mod types;

use serde_json::Value;

use crate::support::Pair;
use crate::support::output::Output;

/// Compares the rows of the pair's subscription.
#[track_caller]
fn verify_data(pair: &Pair, more: &[&str]) -> Output {
    let mut args = vec!["verify_data", pair.subname(), "--format", "json"];
    args.extend(more);
    pair.flare(&args)
}

/// All rows that were named, as `table: kind key: columns`.
fn named(json: &Value) -> Vec<String> {
    let mut named = Vec::new();
    for table in json["tables"].as_array().expect("tables") {
        for example in table["examples"].as_array().expect("examples") {
            let texts = |list: &Value, of: &dyn Fn(&Value) -> String| -> String {
                let list = list.as_array().expect("a list");
                list.iter().map(of).collect::<Vec<_>>().join(",")
            };
            let plain = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            named.push(format!(
                "{}: {} {}: {}",
                plain(&table["table"]),
                plain(&example["kind"]),
                texts(&example["key"], &|it| plain(&it["value"])),
                texts(&example["columns"], &|it| plain(&it["column"])),
            ));
        }
    }
    named.sort();
    named
}
