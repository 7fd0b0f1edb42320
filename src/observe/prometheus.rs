//! Samples in Prometheus's text format (its documentation: "Exposition formats").

use std::fmt::{self, Write};

use super::sample::Sample;

/// Every state has its line, so that no series comes and goes.
const STATES: [(&str, &str); 5] = [
    ("i", "initialize"),
    ("d", "copying"),
    ("f", "copied"),
    ("s", "synchronized"),
    ("r", "ready"),
];

/// Values, each with its state where the metric has states.
type Values = Vec<(Option<&'static str>, f64)>;

/// A metric: its name, its type, what it is, and its values in a sample.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    values: fn(&Sample) -> Values,
}

const METRICS: [Metric; 6] = [
    Metric {
        name: "flare_lag_bytes",
        kind: "gauge",
        help: "Write-ahead log that the subscriber has not confirmed.",
        values: |sample| one(sample.lag_bytes.map(|it| it as f64)),
    },
    Metric {
        name: "flare_lag_seconds",
        kind: "gauge",
        help: "How old the subscriber's state is; 0 when it has confirmed everything.",
        values: |sample| one(sample.lag_seconds),
    },
    Metric {
        name: "flare_retained_wal_bytes",
        kind: "gauge",
        help: "Write-ahead log that the replication slot keeps on the publisher.",
        values: |sample| one(sample.retained_wal_bytes.map(|it| it as f64)),
    },
    Metric {
        name: "flare_slot_active",
        kind: "gauge",
        help: "Whether the replication slot is in use; 0 also when there is none.",
        values: |sample| {
            let known = sample.publisher.as_ref();
            one(known.map(|_| f64::from(u8::from(sample.active == Some(true)))))
        },
    },
    Metric {
        name: "flare_tables",
        kind: "gauge",
        help: "Tables of the subscription by state of their copy.",
        values: |sample| {
            let subscriber = sample.subscriber.iter();
            let known = subscriber.filter(|it| it.subscription.is_some());
            known
                .flat_map(|subscriber| {
                    STATES.map(|(state, name)| {
                        let count = subscriber.table_states.get(state).copied().unwrap_or(0);
                        (Some(name), count as f64)
                    })
                })
                .collect()
        },
    },
    Metric {
        name: "flare_apply_errors_total",
        kind: "counter",
        help: "Errors while applying changes (PostgreSQL 15 and later).",
        values: |sample| {
            let errors = sample.subscriber.as_ref().and_then(|it| it.errors.as_ref());
            one(errors.map(|it| it.apply_error_count as f64))
        },
    },
];

fn one(value: Option<f64>) -> Values {
    value.map(|value| (None, value)).into_iter().collect()
}

/// All metrics of all samples.
pub(super) fn text<'s>(samples: impl Iterator<Item = &'s Sample>) -> String {
    let samples: Vec<&Sample> = samples.collect();
    let mut text = String::new();
    for metric in METRICS {
        // Writing to a string does not fail.
        write(&mut text, &metric, &samples).unwrap_or_default();
    }
    text
}

fn write(text: &mut String, metric: &Metric, samples: &[&Sample]) -> fmt::Result {
    let Metric {
        name, kind, help, ..
    } = metric;
    writeln!(text, "# HELP {name} {help}")?;
    writeln!(text, "# TYPE {name} {kind}")?;
    for sample in samples {
        let (subname, dbname) = (escaped(&sample.subname), escaped(&sample.dbname));
        for (state, value) in (metric.values)(sample) {
            write!(text, "{name}{{subname=\"{subname}\",dbname=\"{dbname}\"")?;
            if let Some(state) = state {
                write!(text, ",state=\"{state}\"")?;
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
    use super::super::sample::tests::sample;
    use super::*;

    #[test]
    fn metrics_have_help_type_and_escaped_labels() {
        let mut odd = sample();
        odd.subname = "a\"b\\c\nd".into();
        odd.lag_seconds = Some(1.5);
        let mut gone = sample();
        gone.publisher = None;
        gone.subscriber = None;
        gone.lag_bytes = None;
        gone.retained_wal_bytes = None;
        insta::assert_snapshot!(text([&odd, &gone].into_iter()));
    }
}
