//! The full screen in a real pseudo terminal: sizes, keys, colours, servers that go away, and the terminal afterwards.

use std::time::Duration;

use crate::support::pty::Pty;
use crate::support::{Cluster, Pair, process, wait};

fn monitor(pair: &Pair, env: &[(&str, &str)], rows: u16, columns: u16) -> Pty {
    let args = ["monitor", pair.db(), pair.subname(), "--interval", "200ms"];
    let run = pair.invocation(&args).env("TERM", "xterm-256color");
    let run = env
        .iter()
        .fold(run, |run, (name, value)| run.env(name, *value));
    Pty::spawn(run.into_command(), rows, columns)
}

fn coloured(pty: &Pty) -> bool {
    pty.with(|screen| {
        let (rows, columns) = screen.size();
        let (rows, columns) = (rows.get(), columns.get());
        let mut cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        cells.any(|(row, column)| {
            screen.cell(row, column).is_some_and(|cell| {
                cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
            })
        })
    })
}

#[test]
fn it_is_drawn_resized_and_given_back() {
    let pair = Pair::new(14, 18).with_accounts(10).replicating();
    let mut pty = monitor(&pair, &[], 24, 80);
    pty.until("Cut over now:");
    pty.until("walsender");
    pty.until("q quits");
    assert!(coloured(&pty));
    for title in ["Slots", "Tables", "Errors", "Sessions", "Processes"] {
        pty.press("\t");
        pty.until(&format!(" {title}  Tab: "));
    }
    pty.press("?");
    pty.until("Shift-Tab");
    pty.press("?");
    pty.until_gone("Shift-Tab");
    pty.press("+");
    pty.until("every 100ms");
    pty.press("--");
    pty.until("every 500ms");
    pty.press("p");
    pty.until("PAUSED");
    pty.press("p");
    pty.until_gone("PAUSED");
    // Wide enough for all panels at once, and back.
    pty.resize(50, 160);
    pty.until("idle in tx");
    for title in ["Processes", "Slots", "Tables", "Errors", "Sessions"] {
        pty.until(title);
    }
    pty.resize(24, 80);
    pty.until(" Tab: ");
    pty.press("q");
    assert_eq!(pty.wait().code(), Some(0));
    assert!(pty.is_clean(), "{}", pty.text());
}

#[test]
fn it_is_readable_without_colour() {
    let pair = Pair::new(14, 18).with_accounts(10).replicating();
    let mut pty = monitor(&pair, &[("NO_COLOR", "1")], 24, 80);
    pty.until("walsender");
    assert!(!coloured(&pty));
    pty.press("\u{3}");
    assert_eq!(pty.wait().code(), Some(0));
    assert!(pty.is_clean(), "{}", pty.text());
}

#[test]
fn a_server_that_is_away_is_shown_and_comes_back_and_signals_leave_the_terminal_clean() {
    let pair = Pair::alone(13, 16).with_accounts(10).replicating();
    let mut pty = monitor(&pair, &[], 24, 80);
    pty.until("walsender");
    pair.publisher().stop();
    pty.until("the publisher does not answer");
    pair.publisher().start();
    pty.until_gone("the publisher does not answer");
    pair.subscriber().freeze();
    pty.until("the subscriber does not answer");
    // The screen does not wait for it.
    pty.press("?");
    pty.until("Shift-Tab");
    pty.press("?");
    pair.subscriber().thaw();
    pty.until_gone("the subscriber does not answer");
    pty.signal(libc::SIGTERM);
    assert_eq!(pty.wait().code(), Some(0));
    assert!(pty.is_clean(), "{}", pty.text());
    // Frozen servers do not keep it from ending.
    let mut pty = monitor(&pair, &[], 24, 80);
    pty.until("walsender");
    pair.publisher().freeze();
    let began = std::time::Instant::now();
    pty.press("q");
    assert_eq!(pty.wait().code(), Some(0));
    assert!(began.elapsed() < wait::BUSY * Duration::from_secs(2));
    assert!(pty.is_clean(), "{}", pty.text());
    pair.publisher().thaw();
}

#[test]
fn a_panic_leaves_the_terminal_clean() {
    let pair = Pair::new(14, 18).with_accounts(10).replicating();
    let mut pty = monitor(&pair, &[("FLARE_FAILPOINT", "monitor=panic")], 24, 80);
    let ended = wait::until(Duration::from_secs(30), || pty.text().contains("panicked"));
    assert!(ended, "{}", pty.text());
    assert_ne!(pty.wait().code(), Some(0));
    assert!(pty.is_clean(), "{}", pty.text());
}

/// The processor time that a server has used so far, in seconds: its processes and those that have ended.
fn used(server: &Cluster) -> f64 {
    let postmaster = server.postmaster_pid();
    let ticks = |pid: u32, fields: &[usize]| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name of the program may have blanks in it.
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let words: Vec<&str> = rest.split_whitespace().collect();
        let field = |at: &usize| words.get(at - 3).and_then(|it| it.parse::<u64>().ok());
        fields.iter().filter_map(field).sum()
    };
    let children = process::children_of(postmaster);
    let own = ticks(postmaster, &[14, 15, 16, 17]);
    let all = own
        + children
            .iter()
            .map(|pid| ticks(*pid, &[14, 15]))
            .sum::<u64>();
    all as f64 / 100.0
}

#[test]
#[ignore = "two minutes of measuring"]
fn looking_at_a_thousand_tables_costs_less_than_a_hundredth_of_a_core() {
    let pair = Pair::alone(14, 18).with_accounts(10).replicating();
    let create = "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, t text)', n); END LOOP; END $$";
    for server in [pair.publisher(), pair.subscriber()] {
        server.sql(pair.db(), create);
    }
    let refresh = format!(
        "ALTER SUBSCRIPTION {} REFRESH PUBLICATION WITH (copy_data = false)",
        pair.subname()
    );
    pair.subscriber().sql(pair.db(), &refresh);
    pair.await_tables_ready();
    const SECONDS: u64 = 60;
    let measure = || {
        let servers = [pair.publisher(), pair.subscriber()];
        let before = servers.map(used);
        std::thread::sleep(Duration::from_secs(SECONDS));
        let after = servers.map(used);
        [after[0] - before[0], after[1] - before[1]]
    };
    let idle = measure();
    let args = ["monitor", pair.db(), pair.subname()];
    let run = pair.invocation(&args).env("TERM", "xterm-256color");
    let mut pty = Pty::spawn(run.into_command(), 24, 80);
    pty.until("walsender");
    let watched = measure();
    pty.press("q");
    pty.wait();
    for (idle, watched) in idle.into_iter().zip(watched) {
        let share = (watched - idle) / SECONDS as f64 * 100.0;
        println!("{share:.2} % of a core");
        assert!(share < 1.0, "{share} % of a core");
    }
}
