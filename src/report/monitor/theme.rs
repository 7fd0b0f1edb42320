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
            (Theme::Shades, LagStatus::Ok) => Color::Indexed(28),
            (Theme::Shades, LagStatus::Warning) => Color::Indexed(130),
            (Theme::Shades, LagStatus::Unknown) => Color::Indexed(133),
            (Theme::Shades, LagStatus::Critical) => Color::Indexed(161),
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
            // The terminal's yellow cannot be read on a light background.
            (Theme::Basic, LagStatus::Warning) => {
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance of a colour of the 6x6x6 cube, as WCAG 2 defines it.
    fn luminance(index: u8) -> f64 {
        let index = u32::from(index) - 16;
        let part = |level: u32| {
            let value = f64::from(if level == 0 { 0 } else { 55 + 40 * level }) / 255.0;
            if value <= 0.039_28 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * part(index / 36) + 0.7152 * part(index / 6 % 6) + 0.0722 * part(index % 6)
    }

    #[test]
    fn no_word_is_yellow() {
        let warning = Theme::Basic.text(LagStatus::Warning);
        assert_eq!(warning.fg, None);
        assert_eq!(
            Theme::Basic.badge(LagStatus::Warning).fg,
            Some(Color::Black)
        );
    }

    #[test]
    fn shades_are_readable_on_white_and_on_black() {
        for status in [
            LagStatus::Ok,
            LagStatus::Warning,
            LagStatus::Unknown,
            LagStatus::Critical,
        ] {
            let Color::Indexed(index) = Theme::Shades.colour(status) else {
                panic!("{status} has no shade");
            };
            let own = luminance(index) + 0.05;
            let (on_white, on_black) = (1.05 / own, own / 0.05);
            assert!(
                on_white > 4.0 && on_black > 4.0,
                "{status}: {on_white} and {on_black}"
            );
        }
    }
}
