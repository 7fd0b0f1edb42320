//! The file that is read, and everything found wrong with it: problems are collected and reported together.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::error::{Failure, Report};

/// Where a configuration comes from, and the problems found so far.
pub(super) struct Source {
    origin: PathBuf,
    problems: RefCell<Vec<(usize, String)>>,
    cut: Cell<bool>,
}

impl Source {
    pub(super) fn new(origin: &Path) -> Self {
        Source {
            origin: origin.to_owned(),
            problems: RefCell::default(),
            cut: Cell::new(false),
        }
    }

    /// `file:line`, as editors and compilers write it.
    pub(super) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.origin.display())
    }

    /// Records what is wrong on a line.
    pub(super) fn problem(&self, line: usize, what: impl Display) {
        let text = format!("{}: {what}", self.at(line));
        self.problems.borrow_mut().push((line, text));
    }

    /// Records that the text is no YAML from here on. What stands before is still checked, but nothing counts as missing.
    pub(super) fn syntax(&self, line: usize, column: usize, what: impl Display) {
        let text = format!("{}:{column}: {what}", self.at(line));
        self.problems.borrow_mut().push((line, text));
        self.cut.set(true);
    }

    /// Whether the text ended early, so that what is missing may only be unread.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// A path as written in the file: relative ones start at the file's own directory.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        match self.origin.parent() {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        }
    }

    /// All problems as one error, in the order of the file; `None` when there are none.
    pub(super) fn error(&self) -> Option<Report> {
        let mut problems = self.problems.borrow().clone();
        problems.sort_by_key(|(line, _)| *line);
        problems.dedup();
        let texts: Vec<String> = problems.into_iter().map(|(_, text)| text).collect();
        let message = match texts.as_slice() {
            [] => return None,
            [one] => one.clone(),
            many => format!(
                "read {}: {} problems\n  {}",
                self.origin.display(),
                many.len(),
                many.join("\n  ")
            ),
        };
        Some(Failure::usage(message).into())
    }
}

/// The known word that was probably meant; `None` when nothing is near.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let known: Vec<&str> = known.into_iter().collect();
    let alike = |name: &str| strsim::normalized_damerau_levenshtein(word, name);
    let best = known
        .iter()
        .copied()
        .rev()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    if alike(best) >= 0.6 {
        return Some(best);
    }
    known
        .into_iter()
        .find(|name| word.len() >= 4 && name.contains(word))
}

/// ` (did you mean "word"?)`, or nothing.
pub(super) fn suggestion<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    nearest(word, known)
        .map(|name| format!(" (did you mean {name:?}?)"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_a_near_one() {
        let keys = ["superuser", "superuser_password", "db_owner", "host"];
        assert_eq!(nearest("superusr", keys), Some("superuser"));
        assert_eq!(nearest("user", keys), Some("superuser"));
        assert_eq!(nearest("password", keys), Some("superuser_password"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(nearest("", []), None);
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let source = Source::new(Path::new("a.yml"));
        assert!(source.error().is_none());
        source.problem(7, "late");
        assert_eq!(source.error().unwrap().to_string(), "a.yml:7: late");
        source.problem(2, "early");
        assert_eq!(
            source.error().unwrap().to_string(),
            "read a.yml: 2 problems\n  a.yml:2: early\n  a.yml:7: late"
        );
    }
}
