//! Takes the terminal, and gives it back as it was, whatever happens.

use std::io::{self, stdout};
use std::panic;

use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};

/// The terminal, while it is taken.
pub(super) struct Screen(());

impl Screen {
    pub(super) fn take() -> io::Result<Screen> {
        enable_raw_mode()?;
        // From here on it is given back, also when the next step fails.
        let screen = Screen(());
        let before = panic::take_hook();
        // The words of a panic, of any thread, are read only on a terminal that was given back first.
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // The terminal may be gone; then there is nothing to give back.
    execute!(stdout(), cursor::Show, LeaveAlternateScreen).unwrap_or_default();
    disable_raw_mode().unwrap_or_default();
}
