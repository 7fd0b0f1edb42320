//! Processors of the subscriber: an index that is built with helpers beside others costs more of them than one without, and
//! takes longer where there are none to spare.

use crate::error::Result;
use crate::server::{Session, is_lost, params};

/// How many processors the server may use, where it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Processors(Option<usize>);

/// What Linux says of the server's own process; a superuser may read it from 11 on.
pub(super) fn of(session: &Session) -> Result<Processors> {
    if session.major()? < 11 {
        return Ok(Processors::default());
    }
    let said = session.value::<Option<String>>(
        "SELECT pg_read_file('/proc/self/status', 0, 65536, true)",
        params![],
    );
    match said {
        Ok(said) => Ok(Processors(said.as_deref().and_then(allowed))),
        Err(report) if is_lost(&report) => Err(report),
        Err(report) => {
            log::debug!("ask for the server's processors: {report:#}");
            Ok(Processors::default())
        }
    }
}

/// Those of the list that begins so, `0-3,8`.
fn allowed(status: &str) -> Option<usize> {
    let mut lines = status.lines();
    let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        Some(last.checked_sub(first)? + 1)
    });
    ranges.sum()
}

/// How many helpers a build may have while so many sessions build; `None`: as many as the server is set to.
pub(super) fn helpers(Processors(all): Processors, busy: usize) -> Option<i64> {
    let each = all? / busy.max(1);
    i64::try_from(each.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted() {
        let of = |list: &str| {
            allowed(&format!(
                "Name:\tpostgres\nCpus_allowed_list:\t{list}\nMems_allowed:\t1\n"
            ))
        };
        assert_eq!(of("0-1"), Some(2));
        assert_eq!(of("0-3,8,10-11"), Some(7));
        assert_eq!(of("5"), Some(1));
        assert_eq!(of("x"), None);
        assert_eq!(allowed("Name: postgres"), None);
    }

    #[test]
    fn builds_beside_each_other_have_helpers_where_processors_are_left() {
        let two = Processors(Some(2));
        assert_eq!(helpers(two, 2), Some(0));
        // The last one, with nobody beside it for long.
        assert_eq!(helpers(two, 1), Some(1));
        assert_eq!(helpers(Processors(Some(16)), 2), Some(7));
        assert_eq!(helpers(Processors(Some(1)), 4), Some(0));
        assert_eq!(helpers(Processors::default(), 2), None);
    }
}
