//! The monitor: a full screen that is drawn again and again, or one line after the other where there is no terminal.
//!
//! What is drawn is decided by what was sampled alone ([`view`]); samples are taken on a thread of their own, so that a
//! server that does not answer never keeps a key waiting.

mod columns;
mod frame;
mod graph;
mod handover;
mod keys;
mod lines;
mod panel;
mod samples;
#[cfg(test)]
mod tests;
mod theme;
mod view;

use std::io::{self, IsTerminal, stdout};
use std::time::{Duration, Instant};

use super::Format;
use crate::error::{Failure, Result, WrapErr};
use crate::observe::Watch;
use crate::server::interrupt;

use frame::Frames;
use handover::Screen;
use keys::Wish;
use samples::{News, Samples};
use theme::Theme;
use view::View;

/// How often keys and signals are looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// Shows samples until `q`, a signal, or a closed standard output.
pub(crate) fn watch(watch: Watch, interval: Duration, format: Format) -> Result<()> {
    if stdout().is_terminal() && format == Format::Human {
        on_screen(watch, interval)
    } else {
        lines::line_by_line(watch, interval, format)
    }
}

fn on_screen(watch: Watch, interval: Duration) -> Result<()> {
    let mut view = View::new(&watch, interval);
    let samples = Samples::start(watch, interval)?;
    let screen = Screen::take().wrap_err("draw on the terminal")?;
    let drawn = draw_until_quit(&mut view, &samples);
    drop(screen);
    drawn
}

fn draw_until_quit(view: &mut View, samples: &Samples) -> Result<()> {
    let theme = Theme::of_environment();
    let mut frames = Frames::new().wrap_err("draw on the terminal")?;
    let mut drawn_at: Option<Instant> = None;
    loop {
        let mut changed = drawn_at.is_none();
        while let Some(news) = samples.news() {
            changed = true;
            match news {
                News::Sample(sample) => view.take(*sample),
                News::Headline(headline) => view.say(headline),
                News::Ended => {
                    return Failure::new("the thread that takes the samples has ended").err();
                }
            }
        }
        // The clock on the screen goes on while a server does not answer.
        changed |= drawn_at.is_some_and(|at| at.elapsed() >= Duration::from_secs(1));
        if changed {
            frames
                .draw(|frame| view.draw(frame, &theme))
                .wrap_err("draw on the terminal")?;
            drawn_at = Some(Instant::now());
            fail_if_asked();
        }
        let wish = key(GLANCE).wrap_err("read a key")?;
        if interrupt::caught() || wish == Some(Wish::Quit) {
            return Ok(());
        }
        if let Some(wish) = wish {
            view.grant(wish);
            samples.pace(view.pace());
            drawn_at = None;
        }
    }
}

/// For tests, in debug builds: `FLARE_FAILPOINT=monitor=panic` panics once something was drawn.
fn fail_if_asked() {
    let asked = cfg!(debug_assertions)
        && std::env::var("FLARE_FAILPOINT").is_ok_and(|it| it == "monitor=panic");
    assert!(!asked, "failpoint reached: monitor");
}

/// Waits for a key, or for the terminal's size to change.
fn key(limit: Duration) -> io::Result<Option<Wish>> {
    if !crossterm::event::poll(limit)? {
        return Ok(None);
    }
    Ok(keys::wish(&crossterm::event::read()?))
}
