//! The screen from fixed samples: what stands where, at the smallest size and at a large one.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Modifier;
use serde_json::json;

use super::keys::Wish;
use super::lines;
use super::theme::Theme;
use super::view::View;
use crate::config::Lag;
use crate::journal::Direction;
use crate::observe::{
    Cause, CauseKind, LagStatus, Rates, Retention, RetentionLimit, Sample, Unanswered, fixed_sample,
};
use crate::observe::{Headline, Ready};

/// A replication that is behind, a copy at work, and a lock in the way.
fn troubled() -> Sample {
    let mut sample = fixed_sample();
    sample.lag_bytes = Some(300 << 20);
    sample.lag_seconds = Some(42.0);
    sample.lag_seconds_at_most = Some(42.5);
    sample.status = LagStatus::Warning;
    sample.message = "the lag is above 64 MB (warning), the lag is above 30 s (warning)".into();
    sample.rates = Some(Rates {
        seconds: 20.0,
        wal_bytes_per_second: Some(3.5e6),
        confirmed_bytes_per_second: Some(8.5e6),
        publisher_rows_per_second: Some(3412.0),
        subscriber_rows_per_second: Some(9001.0),
        catch_up_seconds: Some(63.0),
        ..Rates::default()
    });
    sample.retention = Some(Retention {
        retained_wal_bytes: 3 << 30,
        bytes_left: Some(7 << 30),
        limit: Some(RetentionLimit::MaxSlotWalKeepSize),
        bytes_per_second: Some(5e5),
        hours_left: Some(4.2),
        status: LagStatus::Warning,
    });
    sample.causes = vec![Cause {
        cause: CauseKind::WaitsForLock,
        message: "apply waits for a lock on public.acc, held on the subscriber by pid 7 (user app, idle in transaction for 42 s)".into(),
    }];
    let subscriber = sample.subscriber.as_mut().unwrap();
    subscriber.workers = serde_json::from_value(json!([
        {"pid": 9, "received_lsn": "0/3000000", "wait_event_type": "Lock", "wait_event": "relation",
         "blockers": [{"pid": 7}]},
        {"pid": 12, "table": "public.big", "wait_event_type": "IPC", "wait_event": "LogicalSyncData"},
    ]))
    .unwrap();
    subscriber.index_builds = serde_json::from_value(json!([
        {"pid": 31, "table": "public.acc", "index": "public.acc_b", "phase": "building index: scanning table",
         "blocks_done": 25, "blocks_total": 100, "tuples_total": 0}
    ]))
    .unwrap();
    sample
}

fn view(sample: &Sample) -> View {
    let mut view = View::of("shop / sub", Lag::default(), Duration::from_secs(1));
    for second in 0..=300_u32 {
        let mut past = sample.clone();
        let grown = u64::from(second) * sample.lag_bytes.unwrap_or(0) / 300;
        past.lag_bytes = Some(grown).filter(|_| !(100..120).contains(&second));
        past.lag_seconds = sample.lag_seconds.map(|it| it * f64::from(second) / 300.0);
        view.take_at(past, f64::from(second));
    }
    view.say(Headline {
        writable: "The application writes on the publisher.".into(),
        direction: Direction::Forward,
        cut_over: Ready::No("tables are being copied".into()),
        warnings: Vec::new(),
        max_pause: Duration::from_secs(10),
    });
    view
}

fn drawn(view: &mut View, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| view.draw(frame, &Theme::Plain))
        .unwrap();
    terminal
}

fn screen(view: &mut View, width: u16, height: u16) -> String {
    drawn(view, width, height).backend().to_string()
}

#[test]
fn the_smallest_screen_says_what_is_wrong_and_why() {
    insta::assert_snapshot!(screen(&mut view(&troubled()), 80, 24));
}

#[test]
fn a_large_screen_shows_all_panels_at_once() {
    insta::assert_snapshot!(screen(&mut view(&troubled()), 160, 50));
}

#[test]
fn tab_goes_through_the_panels_and_back() {
    let mut view = view(&troubled());
    for title in ["Slots", "Tables", "Errors", "Sessions", "Processes"] {
        view.grant(Wish::Next);
        let screen = screen(&mut view, 80, 24);
        assert!(screen.contains(&format!("\" {title}  Tab: ")), "{screen}");
    }
    view.grant(Wish::Previous);
    assert!(screen(&mut view, 80, 24).contains("\" Sessions  Tab: "));
}

#[test]
fn a_server_that_is_gone_is_said_on_the_screen() {
    let mut sample = fixed_sample();
    sample.publisher = None;
    sample.publisher_error = Some(Unanswered::silent("connection refused"));
    sample.status = LagStatus::Unknown;
    sample.message = "the publisher does not answer: connection refused".into();
    let screen = screen(&mut view(&sample), 80, 24);
    assert!(screen.contains(" UNKNOWN "), "{screen}");
    assert!(
        screen.contains("the publisher does not answer: connection refused"),
        "{screen}"
    );
}

#[test]
fn keys_pause_and_change_the_pace() {
    let mut view = view(&fixed_sample());
    assert_eq!(view.pace(), Some(Duration::from_secs(1)));
    view.grant(Wish::Faster);
    assert_eq!(view.pace(), Some(Duration::from_millis(500)));
    for _ in 0..20 {
        view.grant(Wish::Slower);
    }
    assert_eq!(view.pace(), Some(Duration::from_secs(60)));
    view.grant(Wish::Pause);
    assert_eq!(view.pace(), None);
    assert!(screen(&mut view, 80, 24).contains("PAUSED"));
    view.grant(Wish::Help);
    assert!(screen(&mut view, 80, 24).contains("Shift-Tab"));
    view.grant(Wish::Down(1000));
    assert!(screen(&mut view, 80, 24).contains("PAUSED"));
}

#[test]
fn any_size_can_be_drawn() {
    let mut view = view(&troubled());
    for (width, height) in [(1, 1), (10, 3), (40, 12), (79, 23), (300, 100), (200, 10)] {
        screen(&mut view, width, height);
    }
}

#[test]
fn without_colour_a_status_stands_out_all_the_same() {
    let mut view = view(&troubled());
    let terminal = drawn(&mut view, 80, 24);
    let buffer = terminal.backend().buffer();
    assert!(
        buffer
            .content()
            .iter()
            .all(|cell| cell.fg == ratatui::style::Color::Reset
                && cell.bg == ratatui::style::Color::Reset)
    );
    assert!(buffer[(1, 0)].modifier.contains(Modifier::REVERSED));
}

#[test]
fn without_a_terminal_a_sample_is_one_line() {
    insta::assert_snapshot!(lines::line(&troubled()));
}
