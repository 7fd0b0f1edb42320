//! What the screen shows of the samples, whatever its size: decided here, drawn by ratatui. The lines on top and the
//! panels have files of their own.

mod panels;
mod top;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::graph::{Graph, Measure, Point};
use super::keys::{HELP, Wish};
use super::panel::Panel;
use super::theme::Theme;
use crate::config::Lag;
use crate::observe::{Headline, Sample, Watch};

/// A day of samples, one each second.
const LONGEST: usize = 86_400;
/// How long a time the graphs may show.
const SPANS: [f64; 7] = [60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];
/// How often samples may be taken.
const INTERVALS: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// The state of the screen.
pub(super) struct View {
    name: String,
    limits: Lag,
    interval: Duration,
    paused: bool,
    help: bool,
    chosen: usize,
    scrolled: usize,
    span: usize,
    begun: Instant,
    points: VecDeque<Point>,
    taken_at: Instant,
    sample: Option<Sample>,
    /// As it was looked up, and at the moment of the sample.
    looked_up: Option<Headline>,
    headline: Option<Headline>,
}

impl View {
    pub(super) fn new(watch: &Watch, interval: Duration) -> View {
        View::of(&watch.name, watch.limits, interval)
    }

    pub(super) fn of(name: &str, limits: Lag, interval: Duration) -> View {
        View {
            name: name.to_owned(),
            limits,
            interval,
            paused: false,
            help: false,
            chosen: 0,
            scrolled: 0,
            span: 1,
            begun: Instant::now(),
            points: VecDeque::new(),
            taken_at: Instant::now(),
            sample: None,
            looked_up: None,
            headline: None,
        }
    }

    /// How often samples are wanted.
    pub(super) fn pace(&self) -> Option<Duration> {
        (!self.paused).then_some(self.interval)
    }

    pub(super) fn take(&mut self, sample: Sample) {
        self.taken_at = Instant::now();
        let at = self.taken_at.duration_since(self.begun).as_secs_f64();
        self.take_at(sample, at);
    }

    pub(super) fn take_at(&mut self, sample: Sample, at: f64) {
        self.points.push_back(Point {
            at,
            bytes: sample.lag_bytes.map(|it| it as f64),
            seconds: sample.lag_seconds,
        });
        if self.points.len() > LONGEST {
            self.points.pop_front();
        }
        self.points.make_contiguous();
        self.sample = Some(sample);
        self.headline = self.headline_now();
    }

    pub(super) fn say(&mut self, headline: Headline) {
        self.looked_up = Some(headline);
        self.headline = self.headline_now();
    }

    fn headline_now(&self) -> Option<Headline> {
        let headline = self.looked_up.clone()?;
        Some(match &self.sample {
            Some(sample) => headline.at(sample),
            None => headline,
        })
    }

    pub(super) fn grant(&mut self, wish: Wish) {
        let step = |by: i64, at: usize, len: usize| {
            usize::try_from(at as i64 + by).unwrap_or(0).min(len - 1)
        };
        match wish {
            Wish::Quit | Wish::Redraw => {}
            Wish::Pause => self.paused = !self.paused,
            Wish::Help => self.help = !self.help,
            Wish::Next => self.choose(1),
            Wish::Previous => self.choose(Panel::ALL.len() - 1),
            Wish::Down(by) => self.scrolled = self.scrolled.saturating_add(by),
            Wish::Up(by) => self.scrolled = self.scrolled.saturating_sub(by),
            Wish::Longer => self.span = step(1, self.span, SPANS.len()),
            Wish::Shorter => self.span = step(-1, self.span, SPANS.len()),
            Wish::Faster => self.interval = self.other_interval(|next, now| next < now, true),
            Wish::Slower => self.interval = self.other_interval(|next, now| next > now, false),
        }
    }

    fn choose(&mut self, by: usize) {
        self.chosen = (self.chosen + by) % Panel::ALL.len();
        self.scrolled = 0;
    }

    fn other_interval(&self, fits: impl Fn(f64, f64) -> bool, from_above: bool) -> Duration {
        let now = self.interval.as_secs_f64();
        let mut fitting = INTERVALS.into_iter().filter(|it| fits(*it, now));
        let next = if from_above {
            fitting.next_back()
        } else {
            fitting.next()
        };
        Duration::from_secs_f64(next.unwrap_or(now))
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, theme: &Theme) {
        let area = frame.area();
        let why = self.why(theme, area.width);
        let lines = u16::try_from(wrapped(&why, area.width)).unwrap_or(u16::MAX);
        let most = if area.height >= 40 { 10 } else { 6 };
        let [title, who, reasons, graphs, flow, panels, keys] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Length(lines.clamp(1, most)),
            Constraint::Percentage(34),
            Constraint::Length(2),
            Constraint::Min(5),
            Constraint::Length(1),
        ])
        .areas(area);
        frame.render_widget(self.title(theme, area.width), title);
        frame.render_widget(self.who(theme, area.width), who);
        frame.render_widget(
            Paragraph::new(Text::from(why)).wrap(Wrap { trim: true }),
            reasons,
        );
        self.draw_graphs(frame, graphs, theme);
        frame.render_widget(Paragraph::new(self.flow(theme, area.width)), flow);
        self.draw_panels(frame, panels, theme);
        frame.render_widget(self.keys(theme), keys);
        if self.help {
            draw_help(frame, theme);
        }
    }

    fn draw_graphs(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let halves = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]);
        let areas: [Rect; 2] = halves.spacing(1).areas(area);
        let now = self.points.back().map_or(0.0, |it| it.at);
        let (warning, critical) = (&self.limits.warning, &self.limits.critical);
        let limits = [
            (
                Measure::Bytes,
                warning.bytes.0 as f64,
                critical.bytes.0 as f64,
            ),
            (Measure::Seconds, warning.seconds, critical.seconds),
        ];
        for (area, (measure, warning, critical)) in areas.into_iter().zip(limits) {
            let graph = Graph {
                measure,
                points: self.points.as_slices().0,
                now,
                span: SPANS[self.span],
                warning,
                critical,
            };
            graph.draw(frame, area, theme);
        }
    }

    fn keys(&self, theme: &Theme) -> Line<'static> {
        let words = if self.paused {
            "p goes on  q quits  Tab panel  ? help"
        } else {
            "q quits  p pauses  +/- interval  Tab panel  arrows move  ? help"
        };
        Line::styled(words, theme.faint())
    }
}

fn draw_help(frame: &mut Frame<'_>, theme: &Theme) {
    let area = frame.area();
    let height = u16::try_from(HELP.len() + 2)
        .unwrap_or(area.height)
        .min(area.height);
    let width = 62.min(area.width);
    let place = Rect {
        x: (area.width - width) / 2,
        y: (area.height - height) / 2,
        width,
        height,
    };
    let lines = HELP.map(|(keys, words)| {
        Line::from(vec![
            Span::styled(format!(" {keys:<20}"), theme.strong()),
            Span::raw(words),
        ])
    });
    let help = Paragraph::new(Text::from(lines.to_vec())).block(Block::bordered().title(" Keys "));
    frame.render_widget(Clear, place);
    frame.render_widget(help, place);
}

/// How many lines these take, wrapped at about this width.
fn wrapped(lines: &[Line<'_>], width: u16) -> usize {
    let width = usize::from(width.max(1));
    lines
        .iter()
        .map(|line| line.width().div_ceil(width).max(1))
        .sum()
}
