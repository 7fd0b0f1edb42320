//! Operations a second over the whole run, by server.

use super::marks::{Change, Step, changed, highest, mesh, shade, stacked};
use super::{Area, Drawn, GAP, seconds};
use crate::attack::timeline::Timeline;
use plotters::prelude::*;

/// More changes of server than this are the flapping of clients that write to several at once.
const MOST_CHANGES: usize = 12;

pub(super) fn throughput(area: &Area, timeline: &Timeline, servers: &[String]) -> Drawn {
    let end = seconds(timeline.length()).max(0.001);
    let steps = &steps(timeline);
    let top = highest(steps);
    let mut plane = ChartBuilder::on(area)
        .margin_right(24)
        .margin_left(14)
        .x_label_area_size(38)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..end, 0.0..top * 1.3)?;
    let width = timeline.width();
    mesh(
        &mut plane,
        &format!(
            "seconds since the start, in steps of {} ms",
            width.as_millis()
        ),
        "operations per second",
    )?;
    stacked(&mut plane, steps)?;
    for (at, bucket) in timeline.buckets() {
        if bucket.errors > 0 {
            let (from, to) = (seconds(at), seconds(at + width).min(end));
            let least = from + end / 700.0;
            let mark = Rectangle::new([(from, 0.0), (to.max(least), top * 0.02)], GAP.filled());
            plane.draw_series([mark])?;
        }
    }
    if let Some(longest) = timeline.longest() {
        shade(&mut plane, longest, 0.0, end, top * 1.27)?;
    }
    for change in changes(timeline) {
        changed(
            &mut plane,
            &change,
            &servers[change.server],
            (end, top * 1.14),
        )?;
    }
    Ok(())
}

fn steps(timeline: &Timeline) -> Vec<Step> {
    let (width, end) = (timeline.width(), timeline.length());
    let buckets = timeline.buckets().map(|(at, bucket)| {
        let to = (at + width).min(end).max(at);
        // A last bucket that the end has cut short would show a peak that is none.
        let took = seconds(to - at).max(seconds(width) / 2.0);
        Step {
            from: seconds(at),
            to: seconds(to),
            rates: bucket.operations.iter().map(|n| *n as f64 / took).collect(),
        }
    });
    buckets.collect()
}

/// Where the run went from one server to another: at the end of the longest gap exactly, elsewhere by its bucket.
fn changes(timeline: &Timeline) -> Vec<Change> {
    let mut found: Vec<Change> = Vec::new();
    let mut before = None;
    for (at, bucket) in timeline.buckets() {
        let Some(server) = bucket.server() else {
            continue;
        };
        if before.is_some_and(|before| before != server) {
            let at = seconds(at);
            found.push(Change { at, server });
        }
        before = Some(server);
    }
    if let Some(longest) = timeline.longest()
        && let (before, Some(server)) = longest.between
        && before != server
    {
        let at = seconds(longest.to);
        let near = 2.0 * seconds(timeline.width());
        found.retain(|change| (change.at - at).abs() > near);
        found.push(Change { at, server });
    }
    if found.len() <= MOST_CHANGES {
        found
    } else {
        Vec::new()
    }
}
