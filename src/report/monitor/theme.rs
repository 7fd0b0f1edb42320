//! Colours: those of the thresholds alone, readable on dark and light, and never the only sign.

use std::env;

use ratatui::style::{Color, Modifier, Style};

use crate::observe::LagStatus;

/// How things are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    /// `NO_COLOR`: bold, underlined and reversed instead.
    Plain,
    /// The sixteen colours of the terminal.
    Basic,
    /// Shades that stand out on black and on white alike.
    Shades,
}

impl Theme {
    pub(super) fn of_environment() -> Theme {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let has = |name: &str, word: &str| env::var(name).is_ok_and(|value| value.contains(word));
        if set("NO_COLOR") {
            Theme::Plain
        } else if has("TERM", "256") || set("COLORTERM") {
            Theme::Shades
        } else {
            Theme::Basic
        }
    }

    fn colour(self, status: LagStatus) -> Color {
        match (self, status) {
            (Theme::Plain, _) => Color::Reset,
            (Theme::Shades, LagStatus::Ok) => Color::Indexed(34),
            (Theme::Shades, LagStatus::Warning) => Color::Indexed(172),
            (Theme::Shades, LagStatus::Unknown) => Color::Indexed(133),
            (Theme::Shades, LagStatus::Critical) => Color::Indexed(160),
            (Theme::Basic, LagStatus::Ok) => Color::Green,
            (Theme::Basic, LagStatus::Warning) => Color::Yellow,
            (Theme::Basic, LagStatus::Unknown) => Color::Magenta,
            (Theme::Basic, LagStatus::Critical) => Color::Red,
        }
    }

    /// Words and lines of this status.
    pub(super) fn text(self, status: LagStatus) -> Style {
        let style = Style::new().fg(self.colour(status));
        match (self, status) {
            (_, LagStatus::Ok) => style,
            (Theme::Plain, LagStatus::Warning) => style.add_modifier(Modifier::UNDERLINED),
            _ => style.add_modifier(Modifier::BOLD),
        }
    }

    /// The status itself, as a badge: its own background makes it readable on any other.
    pub(super) fn badge(self, status: LagStatus) -> Style {
        match (self, status) {
            (Theme::Plain, LagStatus::Ok) => Style::new().add_modifier(Modifier::BOLD),
            (Theme::Plain, _) => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            (_, LagStatus::Warning) => Style::new()
                .fg(Color::Black)
                .bg(self.colour(status))
                .add_modifier(Modifier::BOLD),
            _ => Style::new()
                .fg(Color::White)
                .bg(self.colour(status))
                .add_modifier(Modifier::BOLD),
        }
    }

    /// Headings.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is there to be found, not to be read.
    pub(super) fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// The panel that keys move in.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
    }
}
