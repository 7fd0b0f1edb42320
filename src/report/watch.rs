//! The monitor: a screen that is drawn again and again, or one sample after the other where there is no terminal.

use std::io::{self, IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue, terminal};

use super::Format;
use crate::error::{Result, WrapErr};
use crate::observe::Sampler;
use crate::server::interrupt;

/// How often keys and signals are looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// Shows samples until `q`, a signal, or a closed standard output.
pub fn watch(sampler: &mut Sampler, interval: Duration, format: Format) -> Result<()> {
    match stdout().is_terminal() && format == Format::Human {
        true => on_screen(sampler, interval),
        false => line_by_line(sampler, interval, format),
    }
}

/// One sample per interval; JSON as one object per line.
fn line_by_line(sampler: &mut Sampler, interval: Duration, format: Format) -> Result<()> {
    loop {
        let begun = Instant::now();
        let sample = sampler.sample();
        if interrupt::caught() {
            return Ok(());
        }
        let text = match format {
            Format::Human => format!("{sample}\n"),
            Format::Json => {
                let mut fields =
                    serde_json::to_value(&sample).wrap_err("write the sample as JSON")?;
                if let Some(fields) = fields.as_object_mut() {
                    fields.insert("command".into(), "monitor".into());
                    fields.insert("ok".into(), true.into());
                    fields.insert("changed".into(), false.into());
                    fields.insert("error".into(), serde_json::Value::Null);
                }
                format!("{fields}\n")
            }
        };
        let mut out = stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => {}
            // Whoever read has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).wrap_err("write to standard output"),
        }
        drop(out);
        if interrupt::sleep(interval.saturating_sub(begun.elapsed())).is_err() {
            return Ok(());
        }
    }
}

/// Gives the terminal back, whatever happens.
struct Screen(());

impl Screen {
    fn take() -> io::Result<Screen> {
        terminal::enable_raw_mode()?;
        // From here on it is given back, also when the next step fails.
        let screen = Screen(());
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone; then there is nothing to give back.
        execute!(stdout(), cursor::Show, LeaveAlternateScreen).unwrap_or_default();
        terminal::disable_raw_mode().unwrap_or_default();
    }
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Quit,
    Pause,
    Redraw,
}

fn on_screen(sampler: &mut Sampler, interval: Duration) -> Result<()> {
    let screen = Screen::take().wrap_err("draw on the terminal")?;
    let drawn = draw_until_quit(sampler, interval);
    drop(screen);
    drawn.wrap_err("draw on the terminal")
}

fn draw_until_quit(sampler: &mut Sampler, interval: Duration) -> io::Result<()> {
    let mut paused = false;
    let mut text = sampler.sample().to_string();
    let mut next = Instant::now() + interval;
    draw(&text, paused)?;
    while !interrupt::caught() {
        match key(GLANCE)? {
            Some(Wish::Quit) => return Ok(()),
            Some(Wish::Pause) => {
                paused = !paused;
                draw(&text, paused)?;
            }
            Some(Wish::Redraw) => draw(&text, paused)?,
            None => {}
        }
        let now = Instant::now();
        if !paused && now >= next {
            text = sampler.sample().to_string();
            if interrupt::caught() {
                break;
            }
            next = now + interval;
            draw(&text, paused)?;
        }
    }
    Ok(())
}

/// Waits for a key, or for the terminal's size to change.
fn key(limit: Duration) -> io::Result<Option<Wish>> {
    if !event::poll(limit)? {
        return Ok(None);
    }
    Ok(wish(&event::read()?))
}

fn wish(event: &Event) -> Option<Wish> {
    match event {
        Event::Resize(..) => Some(Wish::Redraw),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
            KeyCode::Char('p') => Some(Wish::Pause),
            _ => None,
        },
        _ => None,
    }
}

fn draw(text: &str, paused: bool) -> io::Result<()> {
    let (width, height) = terminal::size()?;
    let mut out = stdout().lock();
    queue!(out, cursor::MoveTo(0, 0))?;
    for line in page(text, usize::from(width), usize::from(height)) {
        queue!(out, Clear(ClearType::CurrentLine))?;
        write!(out, "{line}\r\n")?;
    }
    queue!(out, Clear(ClearType::FromCursorDown))?;
    write!(out, "{}", keys(usize::from(width), paused))?;
    out.flush()
}

fn keys(width: usize, paused: bool) -> String {
    let keys = match paused {
        true => "PAUSED   p goes on   q quits",
        false => "p pauses   q quits",
    };
    keys.chars().take(width).collect()
}

/// The lines that fit, above the line that names the keys.
fn page(text: &str, width: usize, height: usize) -> Vec<String> {
    let lines = text.lines().take(height.saturating_sub(1));
    lines
        .map(|line| line.chars().take(width).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossterm::event::KeyEvent;

    #[test]
    fn a_page_is_cut_to_the_terminal() {
        assert_eq!(page("abc\ndef\nghi", 2, 3), ["ab", "de"]);
        assert!(page("abc", 0, 0).iter().all(String::is_empty));
    }

    #[test]
    fn keys_are_few() {
        let press = |code, modifiers| wish(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(
            press(KeyCode::Char('q'), KeyModifiers::NONE),
            Some(Wish::Quit)
        );
        assert_eq!(
            press(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Wish::Quit)
        );
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(
            press(KeyCode::Char('p'), KeyModifiers::NONE),
            Some(Wish::Pause)
        );
    }
}
