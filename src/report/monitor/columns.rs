//! Rows of words in columns of one width.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::Theme;

/// No column is wider: one long name must not push the others out.
const WIDEST: usize = 34;

/// A table of words: the head, then the rows. Columns of numbers stand right.
pub(super) struct Columns {
    head: Vec<String>,
    rows: Vec<(Vec<String>, Style)>,
    right: Vec<bool>,
}

impl Columns {
    /// A column whose name ends with `>` stands right.
    pub(super) fn new(head: &[&str]) -> Columns {
        Columns {
            head: head
                .iter()
                .map(|it| it.trim_end_matches('>').to_owned())
                .collect(),
            right: head.iter().map(|it| it.ends_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [String; N], style: Style) {
        let cells = cells.map(|cell| shortened(&cell, WIDEST));
        self.rows.push((cells.into(), style));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn lines(self, theme: &Theme) -> Vec<Line<'static>> {
        let all = || std::iter::once(&self.head).chain(self.rows.iter().map(|(cells, _)| cells));
        let widths: Vec<usize> = (0..self.head.len())
            .map(|at| all().map(|row| width(&row[at])).max().unwrap_or(0))
            .collect();
        let line = |cells: &[String], style: Style| {
            let mut text = String::new();
            for (at, cell) in cells.iter().enumerate() {
                let padding = " ".repeat(widths[at] - width(cell));
                if self.right[at] {
                    text.extend([&padding, cell.as_str()])
                } else {
                    text.extend([cell.as_str(), &padding])
                }
                text.push_str("  ");
            }
            Line::from(Span::styled(text.trim_end().to_owned(), style))
        };
        let mut lines = vec![line(&self.head, theme.strong())];
        lines.extend(self.rows.iter().map(|(cells, style)| line(cells, *style)));
        lines
    }
}

/// Cells on the terminal.
pub(super) fn width(text: &str) -> usize {
    Span::raw(text).width()
}

/// As much of it as fits, without what would move the cursor.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if width(&clean) <= most {
        return clean;
    }
    let mut short = String::new();
    for c in clean.chars() {
        if width(&short) + width(c.encode_utf8(&mut [0; 4])) + 1 > most {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_wide_names_fit_and_nothing_moves_the_cursor() {
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(shortened("漢字漢字", 5), "漢字…");
        assert_eq!(shortened("a\u{1b}[2Jb\n", 20), "a\u{fffd}[2Jb\u{fffd}");
        let mut columns = Columns::new(&["name", "bytes>"]);
        columns.row(["漢".into(), "1".into()], Style::new());
        let lines: Vec<String> = columns
            .lines(&Theme::Plain)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines, ["name  bytes", "漢        1"]);
    }
}
