//! How old the subscriber's state is, as far as it can be known from positions that were seen at known times. Pure.

/// Between these two numbers of seconds. What is shown and judged is the lower one: it is proven.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Age {
    /// Something written this long ago is not confirmed.
    at_least: f64,
    /// Everything written this long ago is confirmed; none when no position that old was seen.
    at_most: Option<f64>,
}

/// A range as narrow as this is shown as one figure.
const NARROW_SECONDS: f64 = 2.0;

impl Age {
    pub(super) fn exactly(seconds: f64) -> Age {
        Age {
            at_least: seconds,
            at_most: Some(seconds),
        }
    }

    /// By the first position seen that is not confirmed, and by the last one that is.
    pub(super) fn between(at_least: Option<f64>, at_most: Option<f64>) -> Age {
        let at_least = at_least.unwrap_or(0.0).max(0.0);
        Age {
            at_least,
            at_most: at_most.map(|it| it.max(at_least)),
        }
    }

    /// The same, when something that old is known not to be confirmed.
    pub(super) fn or_older(self, at_least: Option<f64>) -> Age {
        let at_least = at_least.unwrap_or(0.0).max(self.at_least);
        Age::between(Some(at_least), self.at_most)
    }

    /// What is proven; none when nothing is.
    pub(super) fn at_least(self) -> Option<f64> {
        (self.at_most.is_some() || self.at_least > 0.0).then_some(self.at_least)
    }

    /// What it cannot be above, when anybody knows.
    pub(super) fn at_most(self) -> Option<f64> {
        self.at_most
    }
}

/// The two figures in words: one where they hardly differ.
pub(crate) fn seconds_in_words(at_least: Option<f64>, at_most: Option<f64>) -> String {
    match (at_least, at_most) {
        (None, _) => "unknown".to_owned(),
        (Some(least), Some(most)) if most - least <= NARROW_SECONDS => format!("{least:.1} s"),
        (Some(least), _) => format!("at least {least:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_proven_is_said() {
        let said = |age: Age| (age.at_least(), age.at_most());
        assert_eq!(said(Age::exactly(3.0)), (Some(3.0), Some(3.0)));
        // Nobody has looked for 396 seconds: that says nothing about the lag.
        let seldom = Age::between(Some(-0.001), Some(396.4));
        assert_eq!(said(seldom), (Some(0.0), Some(396.4)));
        assert_eq!(said(seldom.or_older(Some(2.0))), (Some(2.0), Some(396.4)));
        assert_eq!(said(Age::between(None, None)), (None, None));
        assert_eq!(
            said(Age::between(None, None).or_older(Some(2.0))),
            (Some(2.0), None)
        );
        assert_eq!(
            said(Age::between(None, Some(1.0)).or_older(Some(2.0))),
            (Some(2.0), Some(2.0))
        );
    }

    #[test]
    fn a_wide_range_is_said_as_one() {
        assert_eq!(seconds_in_words(None, Some(3.0)), "unknown");
        assert_eq!(seconds_in_words(Some(0.04), Some(1.0)), "0.0 s");
        assert_eq!(seconds_in_words(Some(2.0), Some(396.4)), "at least 2.0 s");
        assert_eq!(seconds_in_words(Some(12.0), None), "at least 12.0 s");
    }
}
