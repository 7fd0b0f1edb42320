//! A lag report in Prometheus's text format (its documentation: "Exposition formats").

use std::fmt::{self, Write};

use super::lag::SubscriptionLag;
use super::verdict::LagStatus;

/// Every state has its line, so that no series comes and goes.
const STATES: [(&str, &str); 5] = [
    ("i", "initialize"),
    ("d", "copying"),
    ("f", "copied"),
    ("s", "synchronized"),
    ("r", "ready"),
];

/// Values, each with what tells it from the metric's others, where there are several.
type Values = Vec<(Option<(&'static str, String)>, f64)>;

/// A metric: its name, its type, what it is, and its values in a report.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    values: fn(&SubscriptionLag) -> Values,
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    values: fn(&SubscriptionLag) -> Values,
) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        values,
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    values: fn(&SubscriptionLag) -> Values,
) -> Metric {
    Metric {
        kind: "counter",
        ..gauge(name, help, values)
    }
}

const METRICS: [Metric; 17] = [
    gauge(
        "flare_status",
        "How it fares, as Nagios counts it: 0 ok, 1 warning, 2 critical, 3 unknown.",
        |lag| {
            one(Some(match lag.status {
                LagStatus::Ok => 0.0,
                LagStatus::Warning => 1.0,
                LagStatus::Critical => 2.0,
                LagStatus::Unknown => 3.0,
            }))
        },
    ),
    gauge(
        "flare_server_up",
        "Whether the server could be asked.",
        |lag| {
            let (from, to) = lag.sample.sides();
            let up = |it: bool| f64::from(u8::from(it));
            vec![
                (
                    Some(("side", from.to_string())),
                    up(lag.sample.publisher.is_some()),
                ),
                (
                    Some(("side", to.to_string())),
                    up(lag.sample.subscriber.is_some()),
                ),
            ]
        },
    ),
    gauge(
        "flare_lag_bytes",
        "Write-ahead log that the subscriber has not confirmed.",
        |lag| one(lag.lag_bytes.map(|it| it as f64)),
    ),
    gauge(
        "flare_lag_seconds",
        "How old the subscriber's state is at least; 0 when it has confirmed everything.",
        |lag| one(lag.lag_seconds),
    ),
    gauge(
        "flare_retained_wal_bytes",
        "Write-ahead log that the replication slot keeps on the publisher.",
        |lag| one(lag.retained_wal_bytes.map(|it| it as f64)),
    ),
    gauge(
        "flare_retained_wal_left_bytes",
        "What may still be written before the slot is lost or the disk that the configuration names is full.",
        |lag| {
            one(lag
                .retention
                .and_then(|it| it.bytes_left)
                .map(|it| it as f64))
        },
    ),
    gauge(
        "flare_retained_wal_left_hours",
        "How long that lasts at the present rate; absent while it does not fill.",
        |lag| one(lag.retention.and_then(|it| it.hours_left)),
    ),
    gauge(
        "flare_slot_active",
        "Whether the replication slot is in use; 0 also when there is none.",
        |lag| {
            let known = lag.sample.publisher.as_ref();
            one(known.map(|_| f64::from(u8::from(lag.active == Some(true)))))
        },
    ),
    gauge(
        "flare_tables",
        "Tables of the subscription by state of their copy.",
        |lag| {
            let subscriber = lag.sample.subscriber.iter();
            let known = subscriber.filter(|it| it.subscription.is_some());
            known
                .flat_map(|subscriber| {
                    STATES.map(|(state, name)| {
                        let count = subscriber.table_states.get(state).copied().unwrap_or(0);
                        (Some(("state", name.to_owned())), count as f64)
                    })
                })
                .collect()
        },
    ),
    counter(
        "flare_apply_errors_total",
        "Errors while applying changes (PostgreSQL 15 and later).",
        |lag| one(lag.errors.as_ref().map(|it| it.apply_error_count as f64)),
    ),
    counter(
        "flare_sync_errors_total",
        "Errors while copying tables (PostgreSQL 15 and later).",
        |lag| one(lag.errors.as_ref().map(|it| it.sync_error_count as f64)),
    ),
    counter(
        "flare_conflicts_total",
        "Conflicts while applying changes, by kind (PostgreSQL 18 and later).",
        |lag| {
            let kinds = lag.conflicts.iter();
            kinds
                .map(|(kind, count)| {
                    let kind = kind.trim_start_matches("confl_").to_owned();
                    (Some(("kind", kind)), *count as f64)
                })
                .collect()
        },
    ),
    gauge(
        "flare_oldest_transaction_seconds",
        "How long the oldest transaction that writes on the publisher has been open; it holds the slot back.",
        |lag| {
            let publisher = lag.sample.publisher.as_ref();
            one(publisher.map(|it| it.old_transactions.first().map_or(0.0, |it| it.seconds)))
        },
    ),
    gauge(
        "flare_catalog_xmin_age",
        "Transactions since the oldest one whose deleted catalog rows the slot still needs.",
        |lag| {
            one(lag
                .sample
                .slot()
                .and_then(|it| it.catalog_xmin_age)
                .map(|it| it as f64))
        },
    ),
    gauge(
        "flare_unsubscribed_tables",
        "Tables that are published and not subscribed: their rows are skipped in silence.",
        |lag| one(lag.unsubscribed_tables.as_ref().map(|it| it.len() as f64)),
    ),
    gauge(
        "flare_drifted_objects",
        "Objects of the schema that are not the same on both sides.",
        |lag| one(lag.drifted_objects.as_ref().map(|it| it.len() as f64)),
    ),
    gauge(
        "flare_side_gaps",
        "What is open of the side that flare has closed.",
        |lag| one(lag.side_gaps.as_ref().map(|it| it.len() as f64)),
    ),
];

fn one(value: Option<f64>) -> Values {
    value.map(|value| (None, value)).into_iter().collect()
}

/// All metrics of all subscriptions.
pub(super) fn text(subscriptions: &[SubscriptionLag]) -> String {
    let mut text = String::new();
    for metric in METRICS {
        // Writing to a string does not fail.
        write(&mut text, &metric, subscriptions).unwrap_or_default();
    }
    text
}

fn write(text: &mut String, metric: &Metric, subscriptions: &[SubscriptionLag]) -> fmt::Result {
    let Metric {
        name, kind, help, ..
    } = metric;
    writeln!(text, "# HELP {name} {help}")?;
    writeln!(text, "# TYPE {name} {kind}")?;
    for lag in subscriptions {
        let (subname, dbname) = (escaped(&lag.subname), escaped(&lag.dbname));
        for (told_by, value) in (metric.values)(lag) {
            write!(text, "{name}{{subname=\"{subname}\",dbname=\"{dbname}\"")?;
            if let Some((label, which)) = told_by {
                write!(text, ",{label}=\"{}\"", escaped(&which))?;
            }
            writeln!(text, "}} {value}")?;
        }
    }
    Ok(())
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::sample::tests::sample;
    use super::*;

    #[test]
    fn metrics_have_help_type_and_escaped_labels() {
        let mut odd = sample();
        odd.subname = "a\"b\\c\nd".into();
        odd.lag_seconds = Some(1.5);
        let mut odd = SubscriptionLag::of(odd, LagStatus::Warning, String::new());
        odd.unsubscribed_tables = Some(vec!["public.new".into()]);
        odd.conflicts.insert("confl_insert_exists".into(), 3);
        let mut gone = sample();
        gone.publisher = None;
        gone.subscriber = None;
        gone.lag_bytes = None;
        gone.retained_wal_bytes = None;
        let gone = SubscriptionLag::of(gone, LagStatus::Unknown, String::new());
        insta::assert_snapshot!(text(&[odd, gone]));
    }

    /// Every name like that of a metric in a text.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("flare_")).collect()
    }

    fn fixture(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
        let known: BTreeSet<&str> = METRICS.iter().map(|it| it.name).collect();
        let dashboard = fixture("grafana-dashboard.json");
        let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
        let panels = parsed["panels"].as_array().unwrap();
        let asked: BTreeSet<String> = panels
            .iter()
            .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
            .map(|target| target["expr"].as_str().unwrap().to_owned())
            .collect();
        let asked = asked.into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(
            named(&asked),
            known,
            "the dashboard shows every metric, and no other"
        );
        let alerts = fixture("alerts.yml");
        let parsed: serde_yaml::Value = serde_yaml::from_str(&alerts).unwrap();
        let rules = parsed["groups"][0]["rules"].as_sequence().unwrap();
        assert!(rules.len() >= 8);
        for rule in rules {
            assert!(rule["alert"].is_string() && rule["labels"]["severity"].is_string());
            assert!(rule["annotations"]["summary"].is_string());
            let expr = rule["expr"].as_str().unwrap();
            assert!(
                !named(expr).is_empty() && named(expr).is_subset(&known),
                "{expr}"
            );
        }
    }
}
