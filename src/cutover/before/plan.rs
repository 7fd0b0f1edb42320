//! The plan of a switch, as a dry run shows it: its steps, and about how long each would take.
//!
//! What can be measured without changing anything is measured: the way to both servers, a light lock of every table, the
//! reading of the sequences. The rest is what the step took on the machine it was developed on.

use std::time::{Duration, Instant};

use crate::catalog::sequences;
use crate::config::Left;
use crate::cutover::before::build::quickest;
use crate::cutover::pause::table_locks;
use crate::cutover::report::{StepName, StepTime};
use crate::cutover::state::{Database, Pause};
use crate::error::{Result, WrapErr};
use crate::server::at_once;

/// One step of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Planned {
    step: StepName,
    /// What it does, for people.
    does: &'static str,
    /// How often it asks *from* and *to* and waits for the answer.
    asks_from: u32,
    asks_to: u32,
    /// What it costs beyond that, in milliseconds: the median under four writers on two cores.
    costs_ms: u32,
}

const fn planned(
    step: StepName,
    does: &'static str,
    [asks_from, asks_to, costs_ms]: [u32; 3],
) -> Planned {
    Planned {
        step,
        does,
        asks_from,
        asks_to,
        costs_ms,
    }
}

/// In the order of the protocol; the steps up to `disable` are one round trip, `switching` is the second, `open` and
/// `answer` are the third. `poolers`, `route` and `resume` only where they are configured.
const STEPS: [Planned; 14] = [
    planned(
        StepName::Guard,
        "arm what undoes the pause, even if this machine is gone",
        [2, 0, 1],
    ),
    planned(StepName::Poolers, "PAUSE", [0, 0, 6]),
    planned(
        StepName::Revoke,
        "take CONNECT from everyone but those who stay",
        [1, 0, 3],
    ),
    planned(
        StepName::Terminate,
        "end every session of the database",
        [0, 0, 10],
    ),
    planned(StepName::Lock, "lock the published tables", [0, 0, 2]),
    planned(
        StepName::Drain,
        "wait until the last row is on the other side",
        [0, 0, 5],
    ),
    planned(StepName::Sequences, "carry their values over", [0, 0, 2]),
    planned(StepName::Disable, "disable the subscription", [0, 0, 2]),
    planned(
        StepName::Mark,
        "remember where the way back starts",
        [0, 0, 0],
    ),
    planned(StepName::Route, "run the switch hook", [0, 0, 0]),
    planned(
        StepName::Switching,
        "pass the point of no return",
        [1, 0, 2],
    ),
    planned(StepName::Open, "open the other side", [0, 1, 4]),
    planned(
        StepName::Answer,
        "let clients of this side in again, read-only",
        [0, 0, 0],
    ),
    planned(StepName::Resume, "RELOAD and RESUME", [0, 0, 6]),
];

/// What was found out about the two servers without changing anything.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    ask_from: Duration,
    ask_to: Duration,
    lock: Duration,
    sequences: Duration,
}

/// What a dry run says of a switch.
#[derive(Clone, Debug)]
pub(in crate::cutover) struct Plan {
    /// Each step with its estimate.
    pub(in crate::cutover) steps: Vec<StepTime>,
    /// From PAUSE or the REVOKE to the open target, in milliseconds.
    pub(in crate::cutover) pause_ms: f64,
    /// How many sequences each database has that are carried, in the order of the run.
    pub(in crate::cutover) sequences: Vec<usize>,
}

/// What a step does, in words.
pub(in crate::cutover) fn in_words(step: StepName) -> &'static str {
    let found = STEPS.iter().find(|planned| planned.step == step);
    found.map_or("", |planned| planned.does)
}

/// Measures, and estimates.
///
/// # Errors
/// When a server does not answer, or a table cannot be touched.
pub(in crate::cutover) fn estimate(pause: &Pause<'_>) -> Result<Plan> {
    let (from, to) = (
        &pause.sessions.terminate.session,
        &pause.sessions.target_watch.session,
    );
    let (ask_from, ask_to) = at_once(|| quickest(from), || quickest(to));
    let mut measured = Measured {
        ask_from: ask_from?,
        ask_to: ask_to?,
        ..Measured::default()
    };
    let mut carried = Vec::new();
    for database in &pause.databases {
        measured.lock += time_of_locking(database, pause.begin_locks)?;
        let probe = &database.sessions.probe.session;
        // The first reading fills the caches that the preparation will have filled.
        carried.push(sequences::read(probe)?.len());
        let since = Instant::now();
        sequences::read(probe)?;
        measured.sequences += since.elapsed();
    }
    let has = |step: StepName| match step {
        StepName::Poolers | StepName::Resume => !pause.poolers.is_empty(),
        StepName::Answer => pause.config.cutover.left == Left::ReadOnly,
        StepName::Route => pause.config.cutover.hooks.switch.is_some(),
        _ => true,
    };
    let mut plan = plan(has, measured);
    plan.sequences = carried;
    Ok(plan)
}

fn plan(has: impl Fn(StepName) -> bool, measured: Measured) -> Plan {
    let steps = STEPS.iter().filter(|planned| has(planned.step));
    let steps: Vec<StepTime> = steps.map(|planned| planned.takes(measured)).collect();
    let pause_ms = pause_ms(&steps);
    Plan {
        steps,
        pause_ms,
        sequences: Vec::new(),
    }
}

/// From PAUSE or the REVOKE on: arming the guard is nothing that the application notices.
pub(in crate::cutover) fn pause_ms(steps: &[StepTime]) -> f64 {
    let noticed = steps.iter().filter(|step| step.step != StepName::Guard);
    noticed.map(|step| step.ms).sum()
}

impl Planned {
    fn takes(&self, measured: Measured) -> StepTime {
        let asking = measured.ask_from * self.asks_from + measured.ask_to * self.asks_to;
        let more = match self.step {
            StepName::Lock => measured.lock,
            StepName::Sequences => measured.sequences * 2,
            _ => Duration::ZERO,
        };
        StepTime {
            step: self.step,
            ms: (asking + more).as_secs_f64() * 1000.0 + f64::from(self.costs_ms),
        }
    }
}

/// Locks all tables as a reader does, and lets them go.
fn time_of_locking(database: &Database, begin: &str) -> Result<Duration> {
    let session = &database.sessions.lock.session;
    let since = Instant::now();
    table_locks::touch(session, begin, &database.published)
        .wrap_err_with(|| format!("touch the tables of {:?}", database.dbname()))?;
    Ok(since.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_the_steps_that_are_configured_and_a_far_server_costs_more() {
        let near = plan(
            |step| ![StepName::Poolers, StepName::Route, StepName::Resume].contains(&step),
            Measured::default(),
        );
        let names: Vec<StepName> = near.steps.iter().map(|step| step.step).collect();
        assert_eq!(
            names,
            [
                StepName::Guard,
                StepName::Revoke,
                StepName::Terminate,
                StepName::Lock,
                StepName::Drain,
                StepName::Sequences,
                StepName::Disable,
                StepName::Mark,
                StepName::Switching,
                StepName::Open,
                StepName::Answer
            ]
        );
        let line = Measured {
            ask_from: Duration::from_millis(10),
            ask_to: Duration::from_millis(10),
            ..Measured::default()
        };
        let (all, far) = (plan(|_| true, Measured::default()), plan(|_| true, line));
        assert_eq!(far.steps.len(), STEPS.len());
        // Three round trips.
        assert!(
            (far.pause_ms - all.pause_ms - 30.0).abs() < 0.001,
            "{}",
            far.pause_ms
        );
        assert!(far.steps.iter().all(|step| !in_words(step.step).is_empty()));
    }

    #[test]
    fn what_the_servers_need_for_tables_and_sequences_counts() {
        let measured = Measured {
            lock: Duration::from_millis(30),
            sequences: Duration::from_millis(20),
            ..Measured::default()
        };
        let (none, many) = (
            plan(|_| true, Measured::default()),
            plan(|_| true, measured),
        );
        assert!((many.pause_ms - none.pause_ms - 70.0).abs() < 0.001);
    }
}
