//! The lag over time, with its thresholds, on a logarithmic scale: both what is usual and what is critical are seen.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Borders, Chart, Dataset, GraphType};

use super::theme::Theme;
use crate::observe::{LagStatus, span};
use crate::value::Size;

/// One value of each sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Seconds since the screen was opened.
    pub(super) at: f64,
    pub(super) bytes: Option<f64>,
    pub(super) seconds: Option<f64>,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    Bytes,
    Seconds,
}

impl Measure {
    fn of(self, point: &Point) -> Option<f64> {
        match self {
            Measure::Bytes => point.bytes,
            Measure::Seconds => point.seconds,
        }
    }

    /// The least that is told from nothing.
    fn least(self) -> f64 {
        match self {
            Measure::Bytes => 1024.0,
            Measure::Seconds => 0.1,
        }
    }

    pub(super) fn in_words(self, value: f64) -> String {
        match self {
            Measure::Bytes => Size(value.max(0.0) as u64).rounded(),
            Measure::Seconds if value < 10.0 => format!("{value:.1} s"),
            Measure::Seconds => span(value),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Measure::Bytes => "lag",
            Measure::Seconds => "lag",
        }
    }
}

/// The graph of one measure.
pub(super) struct Graph<'p> {
    pub(super) measure: Measure,
    pub(super) points: &'p [Point],
    pub(super) now: f64,
    /// How many seconds are drawn.
    pub(super) span: f64,
    pub(super) warning: f64,
    pub(super) critical: f64,
}

impl Graph<'_> {
    pub(super) fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let scale = |value: f64| value.max(self.measure.least()).log10();
        let values = self.points.iter().filter_map(|it| self.measure.of(it));
        let top = values.fold(self.critical, f64::max) * 2.0;
        let bounds = [self.measure.least().log10(), scale(top)];
        let lines: Vec<Vec<(f64, f64)>> = self.pieces(scale);
        let limit = |value: f64, every: usize| -> Vec<(f64, f64)> {
            let columns = usize::from(area.width);
            (0..columns)
                .step_by(every)
                .map(|at| (-self.span * at as f64 / columns as f64, scale(value)))
                .collect()
        };
        let (warning, critical) = (limit(self.warning, 4), limit(self.critical, 2));
        let mut datasets = vec![
            points(&warning, theme.text(LagStatus::Warning)),
            points(&critical, theme.text(LagStatus::Critical)),
        ];
        let drawn = |line| {
            Dataset::default()
                .marker(Marker::Braille)
                .graph_type(GraphType::Line)
                .style(theme.strong())
                .data(line)
        };
        datasets.extend(lines.iter().map(|line| drawn(line)));
        let label = |share: f64| {
            let value = 10_f64.powf(bounds[0] + (bounds[1] - bounds[0]) * share);
            Span::raw(self.measure.in_words(value))
        };
        let chart = Chart::new(datasets)
            .block(Block::new().borders(Borders::TOP).title(self.title(theme)))
            .legend_position(None)
            .x_axis(
                Axis::default()
                    .bounds([-self.span, 0.0])
                    .labels([Span::raw(format!("-{}", span(self.span))), Span::raw("now")]),
            )
            .y_axis(
                Axis::default()
                    .bounds(bounds)
                    .labels([label(0.0), label(0.5), label(1.0)]),
            );
        frame.render_widget(chart, area);
    }

    /// What lies between two moments at which nothing was known is a line of its own.
    fn pieces(&self, scale: impl Fn(f64) -> f64) -> Vec<Vec<(f64, f64)>> {
        let shown = self
            .points
            .iter()
            .filter(|it| it.at >= self.now - self.span);
        let mut pieces = vec![Vec::new()];
        for point in shown {
            match (self.measure.of(point), pieces.last_mut()) {
                (Some(value), Some(piece)) => piece.push((point.at - self.now, scale(value))),
                _ => pieces.push(Vec::new()),
            }
        }
        pieces
    }

    fn title(&self, theme: &Theme) -> Line<'static> {
        let newest = self.points.last().and_then(|it| self.measure.of(it));
        let status = newest.map_or(LagStatus::Unknown, |value| {
            if value > self.critical {
                LagStatus::Critical
            } else if value > self.warning {
                LagStatus::Warning
            } else {
                LagStatus::Ok
            }
        });
        let value = newest.map_or("unknown".to_owned(), |value| self.measure.in_words(value));
        Line::from(vec![
            Span::styled(format!("{} ", self.measure.name()), theme.strong()),
            Span::styled(value, theme.text(status)),
            Span::raw(format!(
                "  warn {}·  crit {}: ",
                self.measure.in_words(self.warning),
                self.measure.in_words(self.critical)
            )),
        ])
    }
}

fn points<'d>(data: &'d [(f64, f64)], style: Style) -> Dataset<'d> {
    Dataset::default()
        .marker(Marker::Dot)
        .graph_type(GraphType::Scatter)
        .style(style)
        .data(data)
}
