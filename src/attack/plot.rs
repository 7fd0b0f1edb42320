//! The picture of a run: throughput over time by server, latency, and the longest gap from near by.

mod latency;
mod marks;
mod near;
mod throughput;

use std::error::Error;
use std::time::Duration;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use self::latency::latency;
use self::near::near;
use self::throughput::throughput;
use super::summary::Summary;
use super::timeline::Timeline;
use crate::error::{Report, Result};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = std::result::Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1100, 900);
const HEADING: u32 = 62;
const INK: RGBColor = RGBColor(40, 44, 52);
const PALE: RGBColor = RGBColor(225, 228, 233);
const GAP: RGBColor = RGBColor(214, 69, 65);
/// One for each server, light enough to read on.
const SERVERS: [RGBColor; 6] = [
    RGBColor(88, 133, 196),
    RGBColor(92, 168, 104),
    RGBColor(219, 150, 64),
    RGBColor(158, 120, 180),
    RGBColor(96, 175, 180),
    RGBColor(150, 150, 150),
];
/// How many steps the run has at most, two pixels each.
const MOST_STEPS: usize = 512;

/// Draws the run. `servers` are what the servers are called.
pub(super) fn svg(summary: &Summary, timeline: &Timeline, servers: &[String]) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, summary, timeline, servers)
        .map_err(|error| Report::msg(format!("draw the picture of the run: {error}")))?;
    Ok(text)
}

fn draw(text: &mut String, summary: &Summary, timeline: &Timeline, servers: &[String]) -> Drawn {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (heading, panels) = root.split_vertically(HEADING);
    head(&heading, summary, servers)?;
    let timeline = &timeline.coarse(MOST_STEPS);
    let (throughput_area, rest) = panels.split_vertically(330);
    let (latency_area, near_area) = rest.split_vertically(220);
    throughput(&throughput_area, timeline, servers)?;
    latency(&latency_area, timeline)?;
    if let Some(longest) = timeline.longest() {
        near(&near_area, longest, servers)?;
    }
    root.present()?;
    Ok(())
}

fn head(area: &Area, summary: &Summary, servers: &[String]) -> Drawn {
    let title = format!(
        "{} operations in {:.1} s by {} {} ({:.0}/s)",
        summary.acknowledged,
        summary.seconds,
        summary.clients,
        if summary.clients == 1 {
            "client"
        } else {
            "clients"
        },
        summary.rate
    );
    area.draw_text(
        &title,
        &font(20).into_text_style(area).color(&INK),
        (24, 12),
    )?;
    let errors = format!("errors ({})", summary.errors);
    let names = servers.iter().map(String::as_str);
    let named = names.zip(SERVERS.iter().cycle());
    legend(area, named.chain([(errors.as_str(), &GAP)]), (24, 42))
}

/// What each colour means, in one line.
fn legend<'n>(
    area: &Area,
    named: impl IntoIterator<Item = (&'n str, &'n RGBColor)>,
    (mut x, y): (i32, i32),
) -> Drawn {
    let small = font(13).into_text_style(area).color(&INK);
    for (name, color) in named {
        area.draw(&Rectangle::new([(x, y), (x + 12, y + 12)], color.filled()))?;
        area.draw_text(name, &small, (x + 18, y - 1))?;
        x += 44 + width_of(name);
    }
    Ok(())
}

fn font(size: u32) -> FontDesc<'static> {
    ("sans-serif", size).into_font()
}

/// About how wide a text of the legend is.
fn width_of(text: &str) -> i32 {
    text.chars().count() as i32 * 8
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// As many digits as tell something.
fn shown(number: f64) -> String {
    let digits = match number.abs() {
        size if size >= 100.0 || size.fract() == 0.0 => 0,
        size if size >= 1.0 => 1,
        _ => 2,
    };
    format!("{number:.digits$}")
}
