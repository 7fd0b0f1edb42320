//! Two ways to do the same, in turn, and what their medians say.

use std::env;

/// What both came to, median by median.
pub struct Compared {
    pub ours: f64,
    pub theirs: f64,
}

/// Runs both as often as `ROUNDS` says, or as often as said here, after a round that only warms up.
pub fn compare(
    rounds: usize,
    mut ours: impl FnMut() -> f64,
    mut theirs: impl FnMut() -> f64,
) -> Compared {
    let rounds = match env::var("ROUNDS") {
        Ok(rounds) => rounds.parse().expect("ROUNDS is a number"),
        Err(_) => rounds,
    };
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let both = (ours(), theirs());
        if round > 0 {
            all_ours.push(both.0);
            all_theirs.push(both.1);
        }
    }
    Compared {
        ours: median(all_ours),
        theirs: median(all_theirs),
    }
}

impl Compared {
    /// One line: what was measured, both medians, and their ratio beside the goal.
    pub fn report(&self, what: &str, unit: &str, goal: Goal) {
        let ratio = self.ours / self.theirs;
        let (words, met) = match goal {
            Goal::AtMost(goal) => (format!("at most {goal:.2}"), ratio <= goal),
            Goal::AtLeast(goal) => (format!("at least {goal:.2}"), ratio >= goal),
        };
        println!(
            "{what:<66} {:>9.1} {unit} to {:>9.1} {unit}: ratio {ratio:.2}, goal {words}{}",
            self.ours,
            self.theirs,
            if met { "" } else { " MISSED" }
        );
    }
}

#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    let middle = all.len() / 2;
    match all.len() % 2 {
        0 => f64::midpoint(all[middle - 1], all[middle]),
        _ => all[middle],
    }
}
