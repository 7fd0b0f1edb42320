//! The README's picture of the monitor: what stands on the screen of a real run, as an SVG.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::pty::Pty;
use crate::support::{Pair, wait};

const ROWS: u16 = 34;
const COLUMNS: u16 = 124;

#[test]
#[ignore = "make picture"]
fn of_a_real_run() {
    // Only when asked for by name: it takes a minute and writes a file.
    let Some(path) = std::env::var_os("FLARE_PICTURE") else {
        return;
    };
    let pair = Pair::new(14, 18).with_accounts(5000).published();
    pair.flare(&["create_replication_status_table", pair.db()])
        .ok();
    pair.flare(&[
        "create_subscription",
        "--use-repl-user",
        "--wait",
        pair.subname(),
    ])
    .ok();
    pair.await_caught_up();
    let args = ["monitor", pair.db(), pair.subname()];
    let run = pair.invocation(&args).env("TERM", "xterm-256color");
    let mut pty = Pty::spawn(run.into_command(), ROWS, COLUMNS);
    // A shorter time in the graphs, so that a minute fills them.
    pty.until("walsender");
    pty.press("\u{1b}[C");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = pair.publisher().superuser_session(pair.db());
            while !stop.load(Ordering::Relaxed) {
                client
                    .batch_execute(
                        "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 20 = 0",
                    )
                    .expect("write");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        wait::until(Duration::from_secs(25), || false);
        let mut lock = pair.subscriber().superuser_session(pair.db());
        lock.batch_execute("BEGIN; LOCK TABLE pgbench_accounts IN SHARE MODE")
            .expect("lock");
        wait::until(Duration::from_secs(30), || {
            let text = pty.text();
            text.contains("Cut over now: no, because a worker waits for a lock")
        });
        wait::until(Duration::from_secs(12), || false);
        std::fs::write(path, pty.with(svg)).expect("write the picture");
        drop(lock);
        stop.store(true, Ordering::Relaxed);
    });
    pty.press("q");
    pty.wait();
}

/// A screen as text in a fixed grid, on a background that suits light pages and dark ones.
fn svg(screen: &vt100::Screen) -> String {
    const WIDE: u32 = 8;
    const HIGH: u32 = 17;
    let (width, height) = (u32::from(COLUMNS) * WIDE + 24, u32::from(ROWS) * HIGH + 24);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"ui-monospace, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#16181d\"/>\n"
    );
    for row in 0..ROWS {
        let baseline = 24 + u32::from(row) * HIGH;
        for column in 0..COLUMNS {
            let Some(cell) = screen.cell(row, column).filter(|it| {
                !it.contents().trim().is_empty()
                    || it.bgcolor() != vt100::Color::Default
                    || it.inverse()
            }) else {
                continue;
            };
            let x = 12 + u32::from(column) * WIDE;
            let (mut front, mut back) = (
                colour(cell.fgcolor(), "#d7dae0"),
                colour(cell.bgcolor(), "none"),
            );
            if cell.inverse() {
                (front, back) = ("#16181d".into(), "#d7dae0".into());
            }
            if back != "none" {
                let top = baseline - 13;
                writeln!(svg, "<rect x=\"{x}\" y=\"{top}\" width=\"{WIDE}\" height=\"{HIGH}\" fill=\"{back}\"/>").expect("a string");
            }
            let text = cell.contents().replace('&', "&amp;").replace('<', "&lt;");
            let weight = if cell.bold() {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let faint = if cell.dim() { " opacity=\"0.6\"" } else { "" };
            if !text.trim().is_empty() {
                writeln!(
                    svg,
                    "<text x=\"{x}\" y=\"{baseline}\" fill=\"{front}\"{weight}{faint}>{text}</text>"
                )
                .expect("a string");
            }
        }
    }
    svg + "</svg>\n"
}

fn colour(colour: vt100::Color, otherwise: &str) -> String {
    match colour {
        vt100::Color::Default => otherwise.to_owned(),
        vt100::Color::Rgb(red, green, blue) => format!("#{red:02x}{green:02x}{blue:02x}"),
        vt100::Color::Idx(28 | 2) => "#4fb65b".into(),
        vt100::Color::Idx(130 | 3) => "#e0912f".into(),
        vt100::Color::Idx(161 | 1) => "#e5534b".into(),
        vt100::Color::Idx(133 | 5) => "#b66fc6".into(),
        vt100::Color::Idx(0) => "#000000".into(),
        vt100::Color::Idx(_) => "#ffffff".into(),
    }
}
