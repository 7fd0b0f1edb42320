//! Positions seen earlier, in memory: how long ago the publisher was where the subscriber is now.

use std::collections::VecDeque;
use std::time::Instant;

use super::sample::Sample;
use crate::value::Lsn;

/// A day of samples, one each second.
const LONGEST: usize = 86_400;

/// The publisher's positions, oldest first.
#[derive(Default)]
pub(super) struct History {
    seen: VecDeque<(Instant, Lsn)>,
}

impl History {
    /// Takes a sample's position in, and says how old the position is that its subscriber has confirmed.
    pub(super) fn lag_of(&mut self, sample: &Sample, now: Instant) -> Option<f64> {
        let current = sample.publisher.as_ref()?.current_wal_lsn;
        self.note(now, current);
        let confirmed = sample.slot()?.confirmed_flush_lsn?;
        self.age_of(confirmed, now)
    }

    fn note(&mut self, at: Instant, current: Lsn) {
        match self.seen.back_mut() {
            // Still there: from now on counted from this moment.
            Some(last) if last.1 == current => last.0 = at,
            // Another server, or one that was restored: what was seen says nothing any more.
            Some(last) if last.1 > current => {
                self.seen.clear();
                self.seen.push_back((at, current));
            }
            _ => self.seen.push_back((at, current)),
        }
        if self.seen.len() > LONGEST {
            self.seen.pop_front();
        }
    }

    /// The newest position that is confirmed; those before it are forgotten.
    fn age_of(&mut self, confirmed: Lsn, now: Instant) -> Option<f64> {
        while self.seen.get(1).is_some_and(|next| next.1 <= confirmed) {
            self.seen.pop_front();
        }
        let (at, _) = self.seen.front().filter(|first| first.1 <= confirmed)?;
        Some(now.duration_since(*at).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn age_is_that_of_the_newest_confirmed_position() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::default();
        history.note(at(0), Lsn(100));
        assert_eq!(history.age_of(Lsn(50), at(1)), None);
        assert_eq!(history.age_of(Lsn(100), at(0)), Some(0.0));
        history.note(at(10), Lsn(200));
        history.note(at(20), Lsn(300));
        assert_eq!(history.age_of(Lsn(150), at(20)), Some(20.0));
        assert_eq!(history.age_of(Lsn(250), at(21)), Some(11.0));
        history.note(at(30), Lsn(300));
        assert_eq!(history.age_of(Lsn(300), at(30)), Some(0.0));
        history.note(at(40), Lsn(7));
        assert_eq!(history.age_of(Lsn(5), at(40)), None);
    }
}
