//! Positions seen earlier, in memory: how long ago the publisher was where the subscriber is now.

use std::collections::VecDeque;
use std::time::Instant;

use super::age::Age;
use super::sample::Sample;
use crate::value::Lsn;

/// A day of samples, one each second.
const LONGEST: usize = 86_400;

/// Where the publisher was from one moment to another.
struct Seen {
    since: Instant,
    until: Instant,
    lsn: Lsn,
}

/// The publisher's positions, oldest first.
#[derive(Default)]
pub(super) struct History {
    seen: VecDeque<Seen>,
}

impl History {
    /// Takes a sample's position in, and says how old the state is that its subscriber has confirmed.
    pub(super) fn lag_of(&mut self, sample: &Sample, now: Instant) -> Option<Age> {
        let current = sample.publisher.as_ref()?.current_wal_lsn;
        self.note(now, current);
        let confirmed = sample.slot()?.confirmed_flush_lsn?;
        Some(self.age_of(confirmed, now))
    }

    fn note(&mut self, at: Instant, lsn: Lsn) {
        match self.seen.back_mut() {
            Some(last) if last.lsn == lsn => {
                last.until = at;
                return;
            }
            // Another server, or one that was restored: what was seen says nothing any more.
            Some(last) if last.lsn > lsn => self.seen.clear(),
            _ => {}
        }
        self.seen.push_back(Seen {
            since: at,
            until: at,
            lsn,
        });
        if self.seen.len() > LONGEST {
            self.seen.pop_front();
        }
    }

    /// Between the newest position that is confirmed, before which all are forgotten, and the oldest that is not.
    fn age_of(&mut self, confirmed: Lsn, now: Instant) -> Age {
        while self.seen.get(1).is_some_and(|next| next.lsn <= confirmed) {
            self.seen.pop_front();
        }
        let ago = |at: Instant| now.duration_since(at).as_secs_f64();
        let known = self.seen.front().filter(|first| first.lsn <= confirmed);
        let missing = self.seen.get(usize::from(known.is_some()));
        match (known, missing) {
            (Some(_), None) => Age::exactly(0.0),
            (known, missing) => Age::between(
                missing.map(|it| ago(it.since)),
                known.map(|it| ago(it.until)),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn age_is_between_what_is_confirmed_and_what_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let between = |least: f64, most: f64| Age::between(Some(least), Some(most));
        let mut history = History::default();
        history.note(at(0), Lsn(100));
        assert_eq!(
            history.age_of(Lsn(50), at(1)),
            Age::between(Some(1.0), None)
        );
        assert_eq!(history.age_of(Lsn(100), at(0)), Age::exactly(0.0));
        history.note(at(10), Lsn(200));
        history.note(at(20), Lsn(300));
        assert_eq!(history.age_of(Lsn(150), at(20)), between(10.0, 20.0));
        assert_eq!(history.age_of(Lsn(250), at(21)), between(1.0, 11.0));
        history.note(at(30), Lsn(300));
        assert_eq!(history.age_of(Lsn(250), at(31)), between(11.0, 21.0));
        assert_eq!(history.age_of(Lsn(300), at(30)), Age::exactly(0.0));
        // Nobody looked for 400 seconds: nothing says that it has been behind for as long.
        history.note(at(430), Lsn(400));
        assert_eq!(history.age_of(Lsn(310), at(430)), between(0.0, 400.0));
        history.note(at(440), Lsn(7));
        assert_eq!(history.age_of(Lsn(5), at(440)).at_most(), None);
    }
}
