//! Settings that are on or off.

/// What a setting of type boolean says, written in any of the ways that the server takes (`parse_bool` in
/// src/backend/utils/adt/bool.c): a word may be cut short as long as it is no other's beginning.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    let text = text.trim().to_lowercase();
    let begins = |word: &str, at_least: usize| text.len() >= at_least && word.starts_with(&text);
    if text == "1" || begins("true", 1) || begins("yes", 1) || begins("on", 2) {
        Some(true)
    } else if text == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2) {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_cut_short() {
        for on in ["on", "ON", "t", "tr", "true", "y", "Yes", "1", " on "] {
            assert_eq!(parse_bool(on), Some(true), "{on:?}");
        }
        for off in ["off", "of", "f", "FALSE", "n", "no", "0"] {
            assert_eq!(parse_bool(off), Some(false), "{off:?}");
        }
        for neither in ["", "o", "2", "onn", "local"] {
            assert_eq!(parse_bool(neither), None, "{neither:?}");
        }
    }
}
