//! The picture of a run: throughput over time by server, latency, and the longest gap from near by.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::summary::Summary;
use super::timeline::{AROUND, Stillness, Timeline};
use crate::error::{Report, Result};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = std::result::Result<(), Box<dyn Error>>;

const SIZE: (u32, u32) = (1100, 900);
const HEADING: u32 = 62;
const INK: RGBColor = RGBColor(40, 44, 52);
const PALE: RGBColor = RGBColor(225, 228, 233);
const GAP: RGBColor = RGBColor(214, 69, 65);
const MEAN: RGBColor = RGBColor(92, 61, 153);
const SLOWEST: RGBColor = RGBColor(190, 174, 222);
/// One for each server, light enough to read on.
const SERVERS: [RGBColor; 6] = [
    RGBColor(88, 133, 196),
    RGBColor(92, 168, 104),
    RGBColor(219, 150, 64),
    RGBColor(158, 120, 180),
    RGBColor(96, 175, 180),
    RGBColor(150, 150, 150),
];
/// More changes of server than this are the flapping of clients that write to several at once.
const MOST_CHANGES: usize = 12;
/// How many steps the run has at most, two pixels each.
const MOST_STEPS: usize = 512;
/// How many steps the gap's surroundings have at most.
const STEPS_AROUND: u32 = 75;

/// A span of time, and what each server acknowledged in it per second.
struct Step {
    from: f64,
    to: f64,
    rates: Vec<f64>,
}

/// From when on another server answers.
struct Change {
    at: f64,
    server: usize,
}

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
    let steps = steps(timeline);
    let (throughput_area, rest) = panels.split_vertically(330);
    let (latency_area, near_area) = rest.split_vertically(220);
    throughput(&throughput_area, timeline, &steps, servers)?;
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

fn throughput(area: &Area, timeline: &Timeline, steps: &[Step], servers: &[String]) -> Drawn {
    let end = seconds(timeline.length()).max(0.001);
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

fn latency(area: &Area, timeline: &Timeline) -> Drawn {
    let end = seconds(timeline.length()).max(0.001);
    let points = |of: fn(&super::timeline::Bucket) -> Option<Duration>| -> Vec<Vec<(f64, f64)>> {
        let middle = seconds(timeline.width()) / 2.0;
        let mut lines = vec![Vec::new()];
        for (at, bucket) in timeline.buckets() {
            match of(bucket) {
                Some(took) => {
                    let point = ((seconds(at) + middle).min(end), milliseconds(took));
                    lines
                        .last_mut()
                        .into_iter()
                        .for_each(|line| line.push(point));
                }
                None => lines.push(Vec::new()),
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    };
    let mean = points(|bucket| bucket.mean());
    let slowest = points(|bucket| bucket.mean().map(|_| bucket.slowest));
    let all = || mean.iter().chain(&slowest).flatten().map(|point| point.1);
    // Powers of ten, so that the axis says round numbers.
    let least = all().fold(f64::INFINITY, f64::min).clamp(0.01, 1.0);
    let most = all().fold(least * 10.0, f64::max);
    let range = 10f64.powf(least.log10().floor())..10f64.powf(most.log10().ceil());
    let mut plane = ChartBuilder::on(area)
        .margin_right(24)
        .margin_left(14)
        .x_label_area_size(38)
        .y_label_area_size(76)
        .build_cartesian_2d(0.0..end, range.log_scale())?;
    plane
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(PALE)
        .axis_style(INK)
        .label_style(font(12).color(&INK))
        .axis_desc_style(font(13).color(&INK))
        .x_desc("seconds since the start")
        .y_desc("latency in ms")
        .x_label_formatter(&|x| shown(*x))
        .y_label_formatter(&|y| shown(*y))
        .y_labels(6)
        .draw()?;
    for (lines, color) in [(slowest, SLOWEST), (mean, MEAN)] {
        for line in lines {
            plane.draw_series(LineSeries::new(line, color.stroke_width(1)))?;
        }
    }
    legend(area, [("mean", &MEAN), ("slowest", &SLOWEST)], (104, 4))
}

/// The longest gap and what is around it, in milliseconds from its beginning.
fn near(area: &Area, longest: &Stillness, servers: &[String]) -> Drawn {
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

fn mesh(plane: &mut Plane, x: &str, y: &str) -> Drawn {
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
fn stacked(plane: &mut Plane, steps: &[Step]) -> Drawn {
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

fn shade(plane: &mut Plane, longest: &Stillness, begin: f64, end: f64, height: f64) -> Drawn {
    let (from, to) = (seconds(longest.from), seconds(longest.to));
    shade_between(plane, longest, from, to, begin..end, height)
}

fn shade_between(
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

fn changed(plane: &mut Plane, change: &Change, name: &str, (end, height): (f64, f64)) -> Drawn {
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

fn highest(steps: &[Step]) -> f64 {
    let sums = steps.iter().map(|step| step.rates.iter().sum());
    sums.fold(1.0, f64::max)
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
