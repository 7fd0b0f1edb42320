//! What is drawn into a plane of operations over time.

use std::ops::Range;

use super::{Drawn, GAP, INK, PALE, Plane, SERVERS, font, milliseconds, seconds, shown};
use crate::attack::timeline::Stillness;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A span of time, and what each server acknowledged in it per second.
pub(super) struct Step {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) rates: Vec<f64>,
}

/// From when on another server answers.
pub(super) struct Change {
    pub(super) at: f64,
    pub(super) server: usize,
}

pub(super) fn mesh(plane: &mut Plane, x: &str, y: &str) -> Drawn {
    plane
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE)
        .axis_style(INK)
        .label_style(font(12).color(&INK))
        .axis_desc_style(font(13).color(&INK))
        .x_desc(x)
        .y_desc(y)
        .x_label_formatter(&|x| shown(*x))
        .y_label_formatter(&|y| shown(*y))
        .x_labels(12)
        .y_labels(6)
        .draw()?;
    Ok(())
}

/// Every server's share on top of the others'.
pub(super) fn stacked(plane: &mut Plane, steps: &[Step]) -> Drawn {
    let servers = steps.iter().map(|step| step.rates.len()).max();
    for server in (0..servers.unwrap_or(0)).rev() {
        let color = SERVERS[server % SERVERS.len()];
        let corners = steps.iter().flat_map(|step| {
            let below: f64 = step.rates.iter().take(server + 1).sum();
            [(step.from, below), (step.to, below)]
        });
        plane.draw_series(AreaSeries::new(corners, 0.0, color.filled()))?;
    }
    Ok(())
}

pub(super) fn shade(
    plane: &mut Plane,
    longest: &Stillness,
    begin: f64,
    end: f64,
    height: f64,
) -> Drawn {
    let (from, to) = (seconds(longest.from), seconds(longest.to));
    shade_between(plane, longest, from, to, begin..end, height)
}

pub(super) fn shade_between(
    plane: &mut Plane,
    longest: &Stillness,
    from: f64,
    to: f64,
    axis: Range<f64>,
    height: f64,
) -> Drawn {
    // Of a long run a pause is less than a pixel.
    let to_see = to.max(from + (axis.end - axis.start) / 700.0);
    let band = Rectangle::new([(from, 0.0), (to_see, height)], GAP.mix(0.28).filled());
    plane.draw_series([band])?;
    let words = format!("longest gap: {} ms", shown(milliseconds(longest.length())));
    let beyond = (to_see - axis.start) / (axis.end - axis.start) > 0.75;
    label(
        plane,
        &words,
        (if beyond { from } else { to_see }, height),
        beyond,
        GAP,
    )
}

pub(super) fn changed(
    plane: &mut Plane,
    change: &Change,
    name: &str,
    (end, height): (f64, f64),
) -> Drawn {
    let line = PathElement::new([(change.at, 0.0), (change.at, height)], INK.stroke_width(1));
    plane.draw_series([line])?;
    label(
        plane,
        name,
        (change.at, height),
        change.at > end * 0.75,
        INK,
    )
}

fn label(
    plane: &mut Plane,
    words: &str,
    at: (f64, f64),
    to_the_left: bool,
    color: RGBColor,
) -> Drawn {
    let (side, distance) = if to_the_left {
        (HPos::Right, -6)
    } else {
        (HPos::Left, 6)
    };
    let style = font(13).color(&color).pos(Pos::new(side, VPos::Top));
    let text = EmptyElement::at(at) + Text::new(words.to_owned(), (distance, 0), style);
    plane.draw_series([text])?;
    Ok(())
}

pub(super) fn highest(steps: &[Step]) -> f64 {
    let sums = steps.iter().map(|step| step.rates.iter().sum());
    sums.fold(1.0, f64::max)
}
