//! Which of the programs that were found does a job: pure, and its refusal names what was found where.

use super::installation::{Program, ProgramName, directories, find};
use crate::config::Tools;
use crate::error::{Failure, Result};

/// What is to be done with other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The program that reads the publisher.
    pub(crate) dump: DumpProgram,
    /// Major version of the server that is read.
    pub(crate) publisher: i32,
    /// Major version of the server that is written.
    pub(crate) subscriber: i32,
}

/// Which dump program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DumpProgram {
    /// Roles.
    PgDumpall,
    /// One database's schema.
    PgDump,
}

/// The two programs that do a job together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toolbox {
    pub(crate) dump: Program,
    pub(crate) psql: Program,
}

impl Toolbox {
    /// Finds the programs on this machine and picks the best pair.
    pub(crate) fn find(tools: &Tools, job: Job) -> Result<Toolbox> {
        let directories = directories(tools);
        let found = find(&directories, &[job.dump.name(), ProgramName::Psql]);
        let toolbox = pick(&found, job)?;
        log::debug!("using {} and {}", toolbox.dump, toolbox.psql);
        Ok(toolbox)
    }
}

impl DumpProgram {
    fn name(self) -> ProgramName {
        match self {
            DumpProgram::PgDumpall => ProgramName::PgDumpall,
            DumpProgram::PgDump => ProgramName::PgDump,
        }
    }
}

/// The dump program at least as new as the publisher and closest to the subscriber, and a psql no older than it.
///
/// pg_dump reads no server newer than itself and writes for its own version; psql knows the `\restrict` that the newest
/// minors of every branch write only when it is as new as they are.
fn pick(found: &[Program], job: Job) -> Result<Toolbox> {
    let mut pairs: Vec<Toolbox> = Vec::new();
    for dump in found
        .iter()
        .filter(|program| program.name == job.dump.name())
    {
        for psql in found
            .iter()
            .filter(|program| program.name == ProgramName::Psql)
        {
            if dump.version.major >= job.publisher && psql.version >= dump.version {
                pairs.push(Toolbox {
                    dump: dump.clone(),
                    psql: psql.clone(),
                });
            }
        }
    }
    let best = pairs.into_iter().min_by_key(|pair| {
        let beyond = pair.dump.version.major - job.subscriber;
        let apart = pair.dump.path.parent() != pair.psql.path.parent();
        (beyond.abs(), beyond > 0, apart)
    });
    best.ok_or_else(|| refusal(found, job).into())
}

fn refusal(found: &[Program], job: Job) -> Failure {
    let list: Vec<String> = found.iter().map(ToString::to_string).collect();
    let list = if list.is_empty() {
        "none was found".to_owned()
    } else {
        format!("found: {}", list.join(", "))
    };
    Failure::new(format!(
        "find {} {} or newer, and a psql no older than it: {list}",
        job.dump.name(),
        job.publisher
    ))
    .hint(format!(
        "install the PostgreSQL {} client programs, or set tools.path in the configuration to their directory",
        job.subscriber.max(job.publisher)
    ))
}

#[cfg(test)]
mod tests {
    use super::super::installation::ProgramVersion;
    use super::*;

    fn program(name: ProgramName, major: i32, minor: i32) -> Program {
        Program {
            name,
            path: format!("/opt/{major}/bin/{name}").into(),
            version: ProgramVersion { major, minor },
        }
    }

    fn installed(majors: &[i32]) -> Vec<Program> {
        let both = |major: &i32| {
            [ProgramName::PgDump, ProgramName::Psql].map(|name| program(name, *major, 4))
        };
        majors.iter().flat_map(both).collect()
    }

    fn picked(majors: &[i32], publisher: i32, subscriber: i32) -> Option<i32> {
        let job = Job {
            dump: DumpProgram::PgDump,
            publisher,
            subscriber,
        };
        pick(&installed(majors), job)
            .ok()
            .map(|toolbox| toolbox.dump.version.major)
    }

    #[test]
    fn closest_to_the_subscriber_and_never_older_than_the_publisher() {
        assert_eq!(picked(&[15, 17, 18], 10, 14), Some(15));
        assert_eq!(picked(&[15, 17, 18], 10, 18), Some(18));
        assert_eq!(picked(&[17], 14, 18), Some(17));
        assert_eq!(picked(&[15, 18], 16, 16), Some(18));
        assert_eq!(picked(&[15], 16, 18), None);
        assert_eq!(picked(&[], 16, 18), None);
    }

    #[test]
    fn psql_is_no_older_than_the_dump() {
        let job = Job {
            dump: DumpProgram::PgDump,
            publisher: 14,
            subscriber: 17,
        };
        let mut found = vec![
            program(ProgramName::PgDump, 17, 6),
            program(ProgramName::Psql, 17, 2),
        ];
        let message = pick(&found, job).unwrap_err().to_string();
        assert!(
            message.contains("psql 17.2 (/opt/17/bin/psql)"),
            "{message}"
        );
        found.push(program(ProgramName::Psql, 18, 1));
        assert_eq!(pick(&found, job).unwrap().psql.version.major, 18);
    }
}
