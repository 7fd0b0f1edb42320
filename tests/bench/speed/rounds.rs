//! Two ways to do the same, in turn, and what their medians say.

use std::env;

/// What both came to in all rounds, sorted.
pub struct Compared {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

/// Runs both as often as `ROUNDS` says, or as often as said here, after a round that only warms up.
pub fn compare(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> Compared {
    let rounds = self::rounds(rounds);
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let both = (ours(), theirs());
        if round > 0 {
            all_ours.push(both.0);
            all_theirs.push(both.1);
        }
    }
    Compared::of(all_ours, all_theirs)
}

/// As many as `ROUNDS` says, or as said here.
pub fn rounds(rounds: usize) -> usize {
    match env::var("ROUNDS") {
        Ok(rounds) => rounds.parse().expect("ROUNDS is a number"),
        Err(_) => rounds,
    }
}

impl Compared {
    pub fn of(mut ours: Vec<f64>, mut theirs: Vec<f64>) -> Self {
        ours.sort_by(f64::total_cmp);
        theirs.sort_by(f64::total_cmp);
        Self { ours, theirs }
    }

    /// One line: what was measured, both medians, and their ratio beside the goal. What else runs on the machine
    /// lengthens both, but not alike: the ratio of the best rounds is what it spoils least.
    pub fn report(&self, what: &str, unit: &str, goal: Goal) {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        let ratio = ours / theirs;
        let best = match goal {
            Goal::AtMost(_) => self.ours[0] / self.theirs[0],
            Goal::AtLeast(_) => self.ours[self.ours.len() - 1] / self.theirs[self.theirs.len() - 1],
        };
        println!("{what}");
        println!(
            "    {ours:.1} {unit} to {theirs:.1} {unit}: {ratio:.2}, of the best rounds {best:.2}{}",
            goal.beside(ratio)
        );
    }
}

impl Compared {
    /// A line below the other: the same in something else than time.
    pub fn beneath(&self, what: &str, unit: &str) {
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        println!(
            "    {what} {ours:.1} {unit} to {theirs:.1} {unit}: {:.2}",
            ours / theirs
        );
    }
}

#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// The goal, and whether this has met it.
    pub fn beside(self, measured: f64) -> String {
        let (words, goal, met) = match self {
            Goal::AtMost(goal) => ("at most", goal, measured <= goal),
            Goal::AtLeast(goal) => ("at least", goal, measured >= goal),
        };
        let verdict = if met { "" } else { " MISSED" };
        format!("; goal {words} {goal:.2}{verdict}")
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
