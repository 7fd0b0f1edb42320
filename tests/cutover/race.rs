//! The point of no return, wanted by several at once: the tool, the guard on the server at its deadline, the guard
//! process, a second tool. One wins, always.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::application::{Application, Side};
use crate::support::flare::Running;
use crate::support::output::Output;
use crate::support::{Pair, matrix, process, wait};

use super::dice::Dice;
use super::fixture::{
    assert_fenced, assert_first_line, assert_moved, assert_settled, at_failpoint,
    await_streaming_from, go_on, open_sides, ready, switch_to, switched_to,
};
use super::state::Before;

/// What else happens when the tool, stopped before `switching`, goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    /// The guard on the server wakes.
    Deadline,
    /// Nothing: the deadline is far.
    Nobody,
    /// It does not go on but dies, and the guard process takes over.
    Death,
}

/// The second tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    ResumeWrite,
    Status,
    TheSame,
    None,
}

const AGAINST: [Against; 4] = [
    Against::Deadline,
    Against::Deadline,
    Against::Nobody,
    Against::Death,
];
const SECOND: [Second; 5] = [
    Second::ResumeWrite,
    Second::ResumeWrite,
    Second::Status,
    Second::TheSame,
    Second::None,
];

impl Against {
    fn max_pause(self) -> &'static str {
        match self {
            Against::Deadline => "2s",
            Against::Nobody | Against::Death => "30s",
        }
    }
}

/// A second tool takes about this long to reach the journal.
const STARTS_WITHIN_MS: u64 = 300;
/// How far from the deadline the tool goes on, before and after.
const SPREAD_MS: u64 = 80;
/// A machine that is too busy for it has the pause undone, which is a round too.
const REACHES_WITHIN: Duration = Duration::from_secs(60);
const OPENS_WITHIN: Duration = Duration::from_secs(15);

#[test]
#[ignore = "make soak"]
fn whoever_wins_the_point_of_no_return_wins_alone() {
    let mut dice = Dice::new();
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let mut at = Side::Publisher;
    let mut ended: BTreeMap<String, u32> = BTreeMap::new();
    for round in 1..=matrix::rounds(2, 1000) {
        let (against, second) = (dice.one_of(&AGAINST), dice.one_of(&SECOND));
        println!(
            "round {round}: {against:?}, and {second:?}, at the {}",
            at.as_str()
        );
        let now_at = play(&pair, at, against, second, &mut dice);
        let how = if now_at == at { "undone" } else { "switched" };
        println!("round {round}: {how}");
        *ended
            .entry(format!("{against:?} {second:?} {how}"))
            .or_default() += 1;
        at = now_at;
    }
    println!("{ended:#?}");
    switched_to(&pair, at.other());
}

/// One round; where the application is afterwards.
fn play(pair: &Pair, from: Side, against: Against, second: Second, dice: &mut Dice) -> Side {
    let to = from.other();
    let application = Application::start(pair);
    application.await_writes_on(from, 20);
    let before = Before::of(pair, from);
    let max_pause = against.max_pause();
    let run = at_failpoint(pair, to, "switching=stop", &["--max-pause", max_pause]).spawn();
    wait::until(REACHES_WITHIN, || {
        run.has_ended() || process::is_stopped(run.pid())
    });

    let moment = match against {
        Against::Deadline => deadline_of(pair, from, max_pause),
        Against::Nobody | Against::Death => {
            Instant::now() + Duration::from_millis(STARTS_WITHIN_MS)
        }
    };
    let early = Duration::from_millis(SPREAD_MS);
    let goes_on = moment - early + Duration::from_micros(dice.below(2000 * SPREAD_MS));
    let early = Duration::from_millis(STARTS_WITHIN_MS);
    let starts =
        moment - early + Duration::from_micros(dice.below(1000 * (STARTS_WITHIN_MS + SPREAD_MS)));
    let mut tool = None;
    if starts < goes_on {
        sleep_until(starts);
        tool = start(pair, second, to);
    }
    sleep_until(goes_on);
    match against {
        Against::Death => run.kill_9(),
        _ => go_on(&run),
    }
    if starts >= goes_on {
        sleep_until(starts);
        tool = start(pair, second, to);
    }
    let first = run.wait();
    let tool = tool.map(Running::wait);
    let told = || match &tool {
        Some(tool) => format!("{first}\n{tool}"),
        None => first.to_string(),
    };

    let open = wait::until(OPENS_WITHIN, || open_sides(pair).len() == 1);
    assert!(open, "nobody can write\n{}", told());
    let status = pair.flare(&["status"]);
    let at = open_sides(pair)[0];
    assert_first_line(status.ok(), at);
    let sides = if at == from {
        vec![from]
    } else {
        vec![from, to]
    };
    assert_told(&first, tool.as_ref(), second, from, at);
    application.await_writes_on(at, 20);
    if at == from {
        await_streaming_from(pair, from);
        assert_eq!(Before::of(pair, from), before, "{}", told());
    } else {
        assert_settled(pair, to);
        assert_fenced(pair, from);
    }
    assert_moved(application, pair, &sides);
    at
}

/// What each of them said of itself is what happened.
#[track_caller]
fn assert_told(first: &Output, tool: Option<&Output>, second: Second, from: Side, at: Side) {
    let is = if at == from { "undone" } else { "switched" };
    // The same command may have moved the application after an undo; one that was killed says nothing.
    if second != Second::TheSame && first.status().code().is_some() {
        assert_eq!(first.json()["outcome"], is, "{first}");
    }
    let Some(tool) = tool else { return };
    match second {
        // It is refused where the application was on the subscriber.
        Second::ResumeWrite if tool.status().success() => {
            assert_eq!(at, Side::Publisher, "{tool}\n{first}")
        }
        Second::TheSame if tool.status().success() => assert_ne!(at, from, "{tool}\n{first}"),
        Second::Status => assert!(tool.status().success(), "{tool}"),
        _ => {}
    }
}

/// When the guard on the server wakes.
fn deadline_of(pair: &Pair, from: Side, max_pause: &str) -> Instant {
    let left = format!(
        "SELECT extract(epoch FROM query_start + interval '{max_pause}' - clock_timestamp()) * 1000
           FROM pg_stat_activity
          WHERE query LIKE 'DO LANGUAGE plpgsql%pg_sleep%{}%' AND state = 'active'",
        pair.db()
    );
    let rows = from.of(pair).rows("postgres", &left);
    let left = rows.first().and_then(|row| row[0].as_deref());
    let left = left.map_or(0.0, |ms| ms.parse().expect("milliseconds"));
    Instant::now() + Duration::from_secs_f64(f64::max(left, 0.0) / 1000.0)
}

fn sleep_until(moment: Instant) {
    std::thread::sleep(moment.saturating_duration_since(Instant::now()));
}

fn start(pair: &Pair, second: Second, to: Side) -> Option<Running> {
    let args = match second {
        Second::ResumeWrite => vec!["resume_write", pair.db()],
        Second::Status => vec!["status"],
        Second::TheSame => switch_to(pair, to, &["--format", "json"]),
        Second::None => return None,
    };
    Some(pair.spawn(&args))
}
