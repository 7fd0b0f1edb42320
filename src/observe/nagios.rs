//! A lag report as a monitoring plugin prints it (Monitoring Plugins Development Guidelines: "Plugin Output",
//! "Performance data").

use super::lag::{LagReport, SubscriptionLag};
use crate::config::Lag;

/// One line with the status, the worst subscription's words and the figures of all; then a line for each of the others.
pub(crate) fn nagios(report: &LagReport, limits: &Lag) -> String {
    let mut worst: Vec<&SubscriptionLag> = report.subscriptions.iter().collect();
    worst.sort_by_key(|it| std::cmp::Reverse(it.status));
    let alone = worst.len() == 1;
    let figures: Vec<String> = report
        .subscriptions
        .iter()
        .flat_map(|it| figures(it, limits, alone))
        .collect();
    let mut lines = worst
        .iter()
        .map(|it| format!("{}: {}", it.subname, it.message));
    let first = lines.next().unwrap_or_default();
    let mut text = format!("FLARE {} - {}", report.status, plain(&first));
    if !figures.is_empty() {
        text += &format!(" | {}", figures.join(" "));
    }
    for line in lines {
        text += &format!("\n{}", plain(&line));
    }
    text
}

/// The bar parts words from figures, and a line is a line.
pub(crate) fn plain(text: &str) -> String {
    text.replace('|', "/")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn figures(lag: &SubscriptionLag, limits: &Lag, alone: bool) -> Vec<String> {
    let (warning, critical) = (&limits.warning, &limits.critical);
    let label = |name: &str| {
        let label = if alone {
            name.to_owned()
        } else {
            format!("{}.{name}", lag.subname)
        };
        let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if label.contains(odd) {
            let clean = label.replace('\'', "''").replace('=', "_");
            format!("'{}'", clean.replace(|c: char| c.is_control(), "_"))
        } else {
            label
        }
    };
    let figure = |name: &str, value: Option<f64>, unit: &str, warning: String, critical: String| {
        let value = value?;
        // To the millisecond: no figure is finer.
        let value = (value * 1000.0).round() / 1000.0;
        let end = format!(";{warning};{critical};0");
        Some(format!("{}={value}{unit}{end}", label(name)))
    };
    let none = String::new;
    let all = [
        figure(
            "lag_bytes",
            lag.lag_bytes.map(|it| it as f64),
            "B",
            warning.bytes.0.to_string(),
            critical.bytes.0.to_string(),
        ),
        figure(
            "lag_seconds",
            lag.lag_seconds,
            "s",
            warning.seconds.to_string(),
            critical.seconds.to_string(),
        ),
        figure(
            "retained_wal_bytes",
            lag.retained_wal_bytes.map(|it| it as f64),
            "B",
            warning.retained_wal.0.to_string(),
            critical.retained_wal.0.to_string(),
        ),
        // Less is worse: a range that has to be left downwards.
        figure(
            "hours_left",
            lag.retention.and_then(|it| it.hours_left),
            "",
            format!("{}:", warning.hours_left),
            format!("{}:", critical.hours_left),
        ),
        figure(
            "tables_ready",
            lag.tables.map(|it| it.ready as f64),
            "",
            none(),
            none(),
        ),
        figure(
            "apply_errors",
            lag.errors.as_ref().map(|it| it.apply_error_count as f64),
            "c",
            none(),
            none(),
        ),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::sample::tests::sample;
    use super::*;
    use crate::observe::LagStatus;

    fn of(subname: &str, status: LagStatus, message: &str) -> SubscriptionLag {
        let mut sample = sample();
        sample.subname = subname.into();
        sample.lag_seconds = Some(0.25);
        SubscriptionLag::of(sample, status, message.into())
    }

    fn report(subscriptions: Vec<SubscriptionLag>) -> LagReport {
        let mut report = LagReport {
            status: LagStatus::Ok,
            subscriptions,
        };
        report.judge_again();
        report
    }

    #[test]
    fn one_subscription_is_one_line_with_its_figures() {
        let one = report(vec![of("sub", LagStatus::Ok, "lag 256 B")]);
        let text = "FLARE OK - sub: lag 256 B | lag_bytes=256B;67108864;1073741824;0 lag_seconds=0.25s;30;300;0 \
                    retained_wal_bytes=16777216B;10737418240;53687091200;0 tables_ready=2;;;0";
        assert_eq!(nagios(&one, &Lag::default()), text);
    }

    #[test]
    fn the_worst_is_first_and_nothing_breaks_the_line() {
        let several = report(vec![
            of("a", LagStatus::Ok, "well"),
            of("o'd=d b", LagStatus::Critical, "slot | lost\nfor good"),
        ]);
        let text = nagios(&several, &Lag::default());
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0]
                .starts_with("FLARE CRITICAL - o'd=d b: slot / lost for good | a.lag_bytes=256B"),
            "{text}"
        );
        assert!(lines[0].contains(" 'o''d_d b.lag_bytes'=256B"), "{text}");
        assert_eq!(lines[1..], ["a: well"]);
        assert_eq!(text.matches('|').count(), 1);
    }
}
