//! What keys ask for.

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Quit,
    Pause,
    Redraw,
    Help,
    /// Another panel: the next one, the one before.
    Next,
    Previous,
    /// Other lines of the panel.
    Down(usize),
    Up(usize),
    /// A longer or a shorter time in the graphs.
    Longer,
    Shorter,
    /// Samples more or less often.
    Faster,
    Slower,
}

/// The keys, as the help shows them.
pub(super) const HELP: [(&str, &str); 8] = [
    ("q, Esc, Ctrl-C", "quit"),
    ("p, Space", "pause, and go on"),
    ("+  -", "look more often, less often"),
    ("Tab, Shift-Tab", "the next panel, the one before"),
    ("Up Down PgUp PgDn", "move within the panel"),
    ("Left Right", "a longer, a shorter time in the graphs"),
    ("?, h", "this help"),
    ("Ctrl-L", "draw anew"),
];

pub(super) fn wish(event: &Event) -> Option<Wish> {
    let key = match event {
        Event::Resize(..) => return Some(Wish::Redraw),
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        _ => return None,
    };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    let wish = match key.code {
        KeyCode::Char('c') if control => Wish::Quit,
        KeyCode::Char('l') if control => Wish::Redraw,
        KeyCode::Char(_) if control => return None,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char('p' | ' ') => Wish::Pause,
        KeyCode::Char('?' | 'h') => Wish::Help,
        KeyCode::Char('+' | '=') => Wish::Faster,
        KeyCode::Char('-' | '_') => Wish::Slower,
        KeyCode::BackTab => Wish::Previous,
        KeyCode::Tab if key.modifiers.contains(KeyModifiers::SHIFT) => Wish::Previous,
        KeyCode::Tab => Wish::Next,
        KeyCode::Down => Wish::Down(1),
        KeyCode::Up => Wish::Up(1),
        KeyCode::PageDown => Wish::Down(10),
        KeyCode::PageUp => Wish::Up(10),
        KeyCode::Left => Wish::Longer,
        KeyCode::Right => Wish::Shorter,
        _ => return None,
    };
    Some(wish)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn each_key_has_its_wish() {
        let press = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(press(KeyCode::Char('q'), none), Some(Wish::Quit));
        let control = KeyModifiers::CONTROL;
        assert_eq!(press(KeyCode::Char('c'), control), Some(Wish::Quit));
        assert_eq!(press(KeyCode::Char('p'), control), None);
        assert_eq!(press(KeyCode::Char('c'), none), None);
        assert_eq!(press(KeyCode::Char('p'), none), Some(Wish::Pause));
        assert_eq!(press(KeyCode::Tab, none), Some(Wish::Next));
        let shift = KeyModifiers::SHIFT;
        assert_eq!(press(KeyCode::BackTab, shift), Some(Wish::Previous));
        assert_eq!(wish(&Event::Resize(1, 1)), Some(Wish::Redraw));
    }
}
