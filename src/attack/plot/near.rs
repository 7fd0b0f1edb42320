//! The longest gap from near by.

use std::time::Duration;

use super::marks::{Change, Step, changed, highest, mesh, shade_between, stacked};
use super::{Area, Drawn, milliseconds, seconds, shown};
use crate::attack::timeline::{AROUND, Stillness};
use plotters::prelude::*;

/// How many steps the gap's surroundings have at most.
const STEPS_AROUND: u32 = 75;

/// The longest gap and what is around it, in milliseconds from its beginning.
pub(super) fn near(area: &Area, longest: &Stillness, servers: &[String]) -> Drawn {
    let length = longest.length();
    let margin = length.clamp(Duration::from_millis(100), AROUND);
    let width = ((margin * 2 + length) / STEPS_AROUND).max(Duration::from_millis(1));
    // Steps begin at the gap's edges, so that none reaches across.
    let edge = |at: Duration, from: Duration| {
        let place = |far: Duration| far.as_nanos() / width.as_nanos();
        match at.checked_sub(from) {
            Some(after) => place(after) as i64,
            None => -1 - place((from - at).saturating_sub(Duration::from_nanos(1))) as i64,
        }
    };
    let count = (margin.as_nanos() / width.as_nanos()).max(1) as i64;
    let mut before = vec![vec![0.0; servers.len()]; count as usize];
    let mut after = before.clone();
    let per_second = 1.0 / seconds(width);
    for acknowledgement in &longest.around {
        let (side, place) = if acknowledgement.at <= longest.from {
            (
                &mut before,
                count + edge(acknowledgement.at, longest.from).min(-1),
            )
        } else {
            (&mut after, edge(acknowledgement.at, longest.to))
        };
        let slot = usize::try_from(place).ok().and_then(|at| side.get_mut(at));
        if let Some(slot) = slot {
            slot[acknowledgement.server] += acknowledgement.operations as f64 * per_second;
        }
    }
    let (gap, width) = (milliseconds(length), milliseconds(width));
    let begins = -(count as f64) * width;
    let placed = |from: f64, sides: Vec<Vec<f64>>| {
        let numbered = sides.into_iter().enumerate();
        numbered.map(move |(at, rates)| Step {
            from: from + at as f64 * width,
            to: from + (at + 1) as f64 * width,
            rates,
        })
    };
    let mut steps: Vec<Step> = placed(begins, before).collect();
    steps.extend(placed(gap, after));
    let top = highest(&steps);
    let end = gap - begins;
    let mut plane = ChartBuilder::on(area)
        .margin_right(24)
        .margin_left(14)
        .margin_bottom(6)
        .x_label_area_size(38)
        .y_label_area_size(76)
        .build_cartesian_2d(begins..end, 0.0..top * 1.3)?;
    mesh(
        &mut plane,
        &format!(
            "milliseconds since the longest gap began, in steps of {} ms",
            shown(width)
        ),
        "operations per second",
    )?;
    let (first, second) = steps.split_at(count as usize);
    stacked(&mut plane, first)?;
    stacked(&mut plane, second)?;
    let here = Stillness {
        from: Duration::ZERO,
        to: length,
        around: Vec::new(),
        ..*longest
    };
    shade_between(&mut plane, &here, 0.0, gap, begins..end, top * 1.27)?;
    if let (before, Some(after)) = longest.between
        && before != after
    {
        let change = Change {
            at: gap,
            server: after,
        };
        changed(&mut plane, &change, &servers[after], (end, top * 1.14))?;
    }
    Ok(())
}
