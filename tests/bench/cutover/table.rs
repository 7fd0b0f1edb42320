//! The figures, for people.

use super::stage::Switched;

/// All switches of one way.
#[derive(Default)]
pub struct Measured {
    gaps: Vec<f64>,
    whole: Vec<f64>,
    /// Each step's times, in the order of the steps.
    steps: Vec<(String, Vec<f64>)>,
}

impl Measured {
    pub fn add(&mut self, switched: Switched) {
        self.gaps.push(switched.gap.as_secs_f64() * 1000.0);
        self.whole.push(switched.took.as_secs_f64() * 1000.0);
        for (step, ms) in switched.steps {
            match self.steps.iter_mut().find(|(known, _)| *known == step) {
                Some((_, times)) => times.push(ms),
                None => self.steps.push((step, vec![ms])),
            }
        }
    }
}

pub fn head() {
    println!("{:<50} {:>10} {:>10} {:>10}", "", "median", "best", "worst");
}

pub fn row(words: &str, way: &Measured) {
    let gaps = sorted(&way.gaps);
    println!(
        "{words:<50} {:>7.1} ms {:>7.1} ms {:>7.1} ms",
        median(&gaps),
        gaps[0],
        gaps[gaps.len() - 1],
    );
}

pub fn print(flare: &Measured, hand: &Measured) {
    println!(
        "{:<42} {:>10} {:>10} {:>10} {:>11} {:>10}",
        "", "median", "best", "worst", "to by hand", "all of it"
    );
    let by_hand = median(&hand.gaps);
    for (words, way) in [("flare cutover, flare fallback", flare), ("by hand", hand)] {
        let gaps = sorted(&way.gaps);
        println!(
            "{words:<42} {:>7.1} ms {:>7.1} ms {:>7.1} ms {:>10.2}x {:>7.0} ms",
            median(&gaps),
            gaps[0],
            gaps[gaps.len() - 1],
            median(&gaps) / by_hand,
            median(&way.whole)
        );
    }
    println!("\n{:<42} {:>10} {:>10}", "step, median", "flare", "by hand");
    for (step, times) in &flare.steps {
        let hand = hand.steps.iter().find(|(known, _)| known == step);
        let hand = hand.map_or_else(String::new, |(_, times)| format!("{:.1} ms", median(times)));
        println!("{step:<42} {:>7.1} ms {hand:>10}", median(times));
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}
