//! Processor time, which other programs on the machine do not lengthen as they do wall time.

use crate::support::{Pair, process};

/// Processor time of both servers and of the programs that have ended here: what else runs on the machine does not
/// lengthen it.
pub fn processor_ms(pair: &Pair) -> f64 {
    // In hundredths of a second, of the process itself in user and kernel mode, then of its children that have ended.
    let ticks = |pid: &str| -> [f64; 2] {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let of = |at: usize| {
            let field = fields.split_whitespace().nth(at);
            field.and_then(|it| it.parse().ok()).unwrap_or(0.0)
        };
        [of(11) + of(12), of(13) + of(14)]
    };
    let mut sum = ticks("self")[1];
    for server in [pair.publisher(), pair.subscriber()] {
        let postmaster = server.postmaster_pid();
        sum += ticks(&postmaster.to_string()).iter().sum::<f64>();
        let children = process::children_of(postmaster);
        sum += children
            .iter()
            .map(|it| ticks(&it.to_string())[0])
            .sum::<f64>();
    }
    sum * 10.0
}
