//! What the panels below the graphs say, line by line.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::columns::Columns;
use super::theme::Theme;
use crate::observe::{Connection, LagStatus, Sample, copy_state, span};
use crate::value::Size;

/// The panels, in the order of the Tab key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    Processes,
    Slots,
    Tables,
    Errors,
    Sessions,
}

impl Panel {
    pub(super) const ALL: [Panel; 5] = [
        Panel::Processes,
        Panel::Slots,
        Panel::Tables,
        Panel::Errors,
        Panel::Sessions,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Panel::Processes => "Processes",
            Panel::Slots => "Slots",
            Panel::Tables => "Tables",
            Panel::Errors => "Errors",
            Panel::Sessions => "Sessions",
        }
    }

    pub(super) fn lines(self, sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
        match self {
            Panel::Processes => processes(sample, theme),
            Panel::Slots => slots(sample, theme),
            Panel::Tables => tables(sample, theme),
            Panel::Errors => errors(sample, theme),
            Panel::Sessions => sessions(sample, theme),
        }
    }
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

fn bytes(value: Option<u64>) -> String {
    value.map_or("-".to_owned(), |value| Size(value).rounded())
}

fn rate(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| {
        format!("{}/s", Size(value.max(0.0) as u64).rounded())
    })
}

fn waits(waits: &crate::observe::Waits) -> String {
    match (&waits.wait_event_type, &waits.wait_event) {
        (Some(kind), Some(event)) => format!("{kind}/{event}"),
        _ => "nothing: at work".to_owned(),
    }
}

fn processes(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let mut table = Columns::new(&["process", "pid>", "does", "position", "waits for"]);
    for walsender in sample.publisher.iter().flat_map(|it| &it.walsenders) {
        let does = format!(
            "{} to {}",
            walsender.state.as_deref().unwrap_or("sends"),
            walsender.client_addr.as_deref().unwrap_or("local")
        );
        table.row(
            [
                "walsender".to_owned(),
                walsender.pid.to_string(),
                does,
                text(walsender.sent_lsn),
                waits(&walsender.waits),
            ],
            Style::new(),
        );
    }
    for worker in sample.subscriber.iter().flat_map(|it| &it.workers) {
        let kind = match (&worker.table, worker.leader_pid) {
            (Some(_), _) => "sync worker",
            (None, Some(_)) => "parallel apply",
            (None, None) => "apply worker",
        };
        let does = match (&worker.table, worker.xact_seconds) {
            (Some(table), _) => format!("copies {table}"),
            (None, Some(seconds)) if seconds >= 1.0 => {
                format!("in a transaction for {}", span(seconds))
            }
            _ => "applies".to_owned(),
        };
        let blocked = worker.waits.wait_event_type.as_deref() == Some("Lock");
        let style = if blocked {
            theme.text(LagStatus::Warning)
        } else {
            Style::new()
        };
        let waits = match worker.blockers.as_slice() {
            [] => waits(&worker.waits),
            some => {
                let pids: Vec<String> = some.iter().map(|it| it.pid.to_string()).collect();
                format!("lock of pid {}", pids.join(", "))
            }
        };
        table.row(
            [
                kind.to_owned(),
                worker.pid.to_string(),
                does,
                text(worker.received_lsn),
                waits,
            ],
            style,
        );
    }
    for build in sample.subscriber.iter().flat_map(|it| &it.index_builds) {
        let done = build
            .tuples_total
            .filter(|it| *it > 0)
            .map(|all| (build.tuples_done, all));
        let done = done.or(build
            .blocks_total
            .filter(|it| *it > 0)
            .map(|all| (build.blocks_done, all)));
        let share = done.map_or(String::new(), |(done, all)| {
            format!("{:.0} %", done.unwrap_or(0) as f64 / all as f64 * 100.0)
        });
        let name = build.index.as_ref().or(build.table.as_ref());
        table.row(
            [
                "index build".to_owned(),
                build.pid.to_string(),
                format!("builds {}", text(name)),
                share,
                text(build.phase.as_ref()),
            ],
            Style::new(),
        );
    }
    if table.is_empty() {
        return vec![Line::styled(
            "no process is at work",
            theme.text(LagStatus::Critical),
        )];
    }
    table.lines(theme)
}

fn slots(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = retention(sample, theme);
    let mut table = Columns::new(&[
        "slot",
        "in use",
        "retains>",
        "may add>",
        "status",
        "xmin age>",
    ]);
    for slot in sample.publisher.iter().flat_map(|it| &it.slots) {
        let healthy = matches!(
            slot.wal_status.as_deref(),
            None | Some("reserved" | "extended")
        );
        let style = if healthy {
            Style::new()
        } else {
            theme.text(LagStatus::Critical)
        };
        let in_use = if slot.active { "yes" } else { "NO" };
        table.row(
            [
                slot.slot_name.clone(),
                in_use.to_owned(),
                bytes(slot.retained_wal_bytes),
                bytes(slot.safe_wal_size.map(|it| u64::try_from(it).unwrap_or(0))),
                text(slot.wal_status.as_ref()),
                text(slot.catalog_xmin_age),
            ],
            style,
        );
    }
    lines.extend(table.lines(theme));
    lines
}

/// What the subscription's slot keeps, of what it may keep.
fn retention(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    use crate::observe::RetentionLimit;
    let Some(retention) = sample.retention else {
        return Vec::new();
    };
    let kept = Size(retention.retained_wal_bytes).rounded();
    let words = match (retention.limit, retention.bytes_left) {
        (Some(limit), Some(left)) => {
            let limit = match limit {
                RetentionLimit::MaxSlotWalKeepSize => "max_slot_wal_keep_size",
                RetentionLimit::WalDisk => "lag.wal_disk",
            };
            let hours = retention
                .hours_left
                .map_or("it does not fill".to_owned(), |hours| {
                    format!(
                        "{} left at {}",
                        span(hours * 3600.0),
                        rate(retention.bytes_per_second)
                    )
                });
            format!(
                "retains {kept}, {} more until {limit}: {hours}",
                Size(left).rounded()
            )
        }
        _ => format!("retains {kept}, no limit is known (max_slot_wal_keep_size, lag.wal_disk)"),
    };
    vec![Line::styled(words, theme.text(retention.status))]
}

fn tables(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let Some(subscriber) = &sample.subscriber else {
        return Vec::new();
    };
    let states: Vec<String> = subscriber
        .table_states
        .iter()
        .map(|(state, count)| format!("{count} {}", copy_state(state)))
        .collect();
    let mut lines = vec![Line::raw(if states.is_empty() {
        "no tables".to_owned()
    } else {
        states.join(", ")
    })];
    let left = |seconds: Option<f64>| seconds.map_or("-".to_owned(), span);
    let Some(copying) = &sample.copying else {
        return lines;
    };
    lines.push(Line::raw(format!(
        "{} of {}, {}, {} left",
        Size(copying.bytes_done).rounded(),
        Size(copying.bytes_total).rounded(),
        rate(copying.bytes_per_second),
        left(copying.seconds_left)
    )));
    let mut table = Columns::new(&["table", "state", "done>", "of>", "rate>", "left>"]);
    for it in &copying.tables {
        table.row(
            [
                it.table.clone(),
                copy_state(&it.srsubstate).to_owned(),
                bytes(Some(it.bytes_done)),
                bytes(it.bytes_total),
                rate(it.bytes_per_second),
                left(it.seconds_left),
            ],
            Style::new(),
        );
    }
    lines.extend(table.lines(theme));
    lines
}

fn errors(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let Some(subscriber) = &sample.subscriber else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    match &subscriber.errors {
        Some(errors) => {
            let all = errors.apply_error_count + errors.sync_error_count;
            let style = match all {
                0 => Style::new(),
                _ => theme.text(LagStatus::Warning),
            };
            let words = format!(
                "errors: {} while applying, {} while copying",
                errors.apply_error_count, errors.sync_error_count
            );
            lines.push(Line::styled(words, style));
        }
        None => lines.push(Line::raw("errors are counted from PostgreSQL 15 on")),
    }
    if subscriber.conflicts.is_empty() {
        lines.push(Line::raw("conflicts are counted from PostgreSQL 18 on"));
    } else {
        let some = subscriber.conflicts.iter().filter(|(_, count)| **count > 0);
        let some: Vec<String> = some
            .map(|(kind, count)| format!("{count} {}", kind.trim_start_matches("confl_")))
            .collect();
        lines.push(if some.is_empty() {
            Line::raw("conflicts: none")
        } else {
            Line::styled(
                format!("conflicts: {}", some.join(", ")),
                theme.text(LagStatus::Warning),
            )
        });
    }
    for note in &sample.notes {
        lines.push(Line::raw(format!("note: {note}")));
    }
    lines
}

fn sessions(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let (from, to) = sample.sides();
    let mut table = Columns::new(&[
        "on",
        "role",
        "sessions>",
        "active>",
        "waiting>",
        "idle in tx>",
    ]);
    let sides: [(_, &[Connection]); 2] = [
        (
            from,
            sample.publisher.as_ref().map_or(&[], |it| &it.connections),
        ),
        (
            to,
            sample.subscriber.as_ref().map_or(&[], |it| &it.connections),
        ),
    ];
    for (side, connections) in sides {
        for it in connections {
            table.row(
                [
                    side.to_string(),
                    it.usename
                        .clone()
                        .unwrap_or_else(|| "the server itself".into()),
                    it.count.to_string(),
                    it.active.to_string(),
                    it.waiting.to_string(),
                    it.idle_in_transaction.to_string(),
                ],
                Style::new(),
            );
        }
    }
    if table.is_empty() {
        return vec![Line::from(Span::raw("no sessions but flare's own"))];
    }
    table.lines(theme)
}
