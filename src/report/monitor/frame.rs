//! Drawing on the terminal: only what has changed is written.

use std::io::{self, Stdout, stdout};

use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

pub(super) struct Frames(Terminal<CrosstermBackend<Stdout>>);

impl Frames {
    pub(super) fn new() -> io::Result<Frames> {
        Terminal::new(CrosstermBackend::new(stdout())).map(Frames)
    }

    /// Draws once, in the size that the terminal has now.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(draw).map(drop)
    }
}
