//! The panels below: all of them, or the chosen one where the screen is small.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph};

use super::View;
use crate::observe::{LagStatus, Sample};
use crate::report::monitor::panel::Panel;
use crate::report::monitor::theme::Theme;

/// Where a panel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Only this one fits.
    Alone,
    /// Beside others, and keys move in it.
    Chosen,
    Beside,
}

impl View {
    pub(super) fn draw_panels(&mut self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let Some(sample) = self.sample.clone() else {
            return;
        };
        if area.height >= 20 && area.width >= 120 {
            let rows: [Rect; 3] = Layout::vertical([Constraint::Ratio(1, 3); 3]).areas(area);
            let halves = Layout::horizontal([Constraint::Percentage(50); 2]).spacing(1);
            let [slots, errors]: [Rect; 2] = halves.areas(rows[1]);
            let [tables, sessions]: [Rect; 2] = halves.areas(rows[2]);
            let places = [rows[0], slots, tables, errors, sessions];
            for (at, (panel, place)) in Panel::ALL.into_iter().zip(places).enumerate() {
                let standing = if at == self.chosen {
                    Place::Chosen
                } else {
                    Place::Beside
                };
                self.draw_panel(frame, place, panel, standing, &sample, theme);
            }
        } else {
            let panel = Panel::ALL[self.chosen];
            self.draw_panel(frame, area, panel, Place::Alone, &sample, theme);
        }
    }

    fn draw_panel(
        &mut self,
        frame: &mut Frame<'_>,
        area: Rect,
        panel: Panel,
        standing: Place,
        sample: &Sample,
        theme: &Theme,
    ) {
        let mut lines = unreachable(sample, theme);
        lines.extend(panel.lines(sample, theme));
        let room = usize::from(area.height.saturating_sub(1));
        let from = match standing {
            Place::Alone | Place::Chosen => {
                self.scrolled = self.scrolled.min(lines.len().saturating_sub(room));
                self.scrolled
            }
            Place::Beside => 0,
        };
        let below = lines.len().saturating_sub(from + room);
        let mut title = vec![match standing {
            Place::Alone | Place::Chosen => {
                Span::styled(format!(" {} ", panel.title()), theme.chosen())
            }
            Place::Beside => Span::styled(format!(" {} ", panel.title()), theme.strong()),
        }];
        // On a small screen the others are named, so that the Tab key is no secret.
        if standing == Place::Alone {
            let at = Panel::ALL.iter().position(|it| *it == panel).unwrap_or(0);
            let others = (1..Panel::ALL.len()).map(|by| Panel::ALL[(at + by) % Panel::ALL.len()]);
            let others: Vec<&str> = others.map(Panel::title).collect();
            title.push(Span::styled(
                format!(" Tab: {} ", others.join(", ")),
                theme.faint(),
            ));
        }
        if below > 0 {
            title.push(Span::raw(format!(" {below} more below ")));
        }
        let block = Block::new().borders(Borders::TOP).title(Line::from(title));
        let text: Vec<Line<'_>> = lines.into_iter().skip(from).collect();
        frame.render_widget(Paragraph::new(text).block(block), area);
    }
}

/// A side that does not answer, in front of everything else.
fn unreachable(sample: &Sample, theme: &Theme) -> Vec<Line<'static>> {
    let (from, to) = sample.sides();
    let errors = [
        (from, &sample.publisher_error),
        (to, &sample.subscriber_error),
    ];
    let errors = errors
        .into_iter()
        .filter_map(|(side, error)| Some((side, error.as_ref()?)));
    errors
        .map(|(side, error)| {
            let words = format!("the {side} {}; asked again with each sample", error.verb());
            Line::styled(words, theme.text(LagStatus::Critical))
        })
        .collect()
}
