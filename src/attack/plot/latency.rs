//! How long operations took, over the whole run.

use std::time::Duration;

use super::{Area, Drawn, INK, PALE, font, legend, milliseconds, seconds, shown};
use crate::attack::timeline::{Bucket, Timeline};
use plotters::prelude::*;

const MEAN: RGBColor = RGBColor(92, 61, 153);
const SLOWEST: RGBColor = RGBColor(190, 174, 222);

pub(super) fn latency(area: &Area, timeline: &Timeline) -> Drawn {
    let end = seconds(timeline.length()).max(0.001);
    let points = |of: fn(&Bucket) -> Option<Duration>| -> Vec<Vec<(f64, f64)>> {
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
