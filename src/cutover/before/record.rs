//! The run is put on record in the journals of both servers.

use uuid::Uuid;

use crate::catalog::publications;
use crate::config::Config;
use crate::cutover::sessions::{Sessions, backend_of};
use crate::cutover::state::{Database, Pause, PauseRequest};
use crate::error::Result;
use crate::journal::{self, Entry, Member, Purpose, Step};
use crate::server::Pair;

/// What the journal of *from* will say of the run.
pub(super) fn entry(
    pair: &Pair,
    request: &PauseRequest,
    databases: &[Database],
    sessions: &Sessions,
) -> Result<Entry> {
    let mut members = Vec::new();
    for (database, wanted) in databases.iter().zip(&request.databases) {
        members.push(Member {
            dbname: wanted.dbname.clone(),
            subname: wanted.subname.clone(),
            pubname: wanted.pubname.clone(),
            privileges: database.privileges.before().clone(),
            keep: database.privileges.keep().iter().cloned().collect(),
            default_before: database.default_before.setting.clone(),
            had_publication: false,
            mark: None,
        });
    }
    let mut backends = vec![backend_of(pair.publisher.facts())];
    backends.extend(sessions.on_from().map(|own| own.backend.clone()));
    for database in databases {
        let own = database.sessions.on_from();
        backends.extend(own.map(|own| own.backend.clone()));
    }
    Ok(Entry {
        run: Uuid::new_v4(),
        generation: 0,
        command: request.command().into(),
        purpose: request.purpose,
        direction: request.direction,
        reverse: request.reverse && request.purpose == Purpose::Switch,
        step: Step::Preparing,
        databases: members,
        backends,
        holder: holder(),
        max_pause_ms: i64::try_from(request.max_pause.as_millis()).unwrap_or(i64::MAX),
        started_at: String::new(),
        changed_at: String::new(),
        silent_seconds: 0.0,
    })
}

/// This machine and process, for whoever finds the run later.
fn holder() -> String {
    let host = rustix::system::uname();
    format!(
        "{}:{}",
        host.nodename().to_string_lossy(),
        std::process::id()
    )
}

/// Puts the run on record on both servers. From here on whatever it makes is found again.
pub(crate) fn write(pause: &mut Pause<'_>, config: &Config) -> Result<()> {
    let (from, to) = (&pause.pair.publisher, &pause.pair.subscriber);
    journal::create(from)?;
    let mut newest = journal::generation(from.admin())?;
    if pause.entry.purpose == Purpose::Switch {
        journal::create(to)?;
        newest = newest.max(journal::generation(to.admin())?);
        for member in &mut pause.entry.databases {
            let stream = member.stream(pause.entry.direction.flipped());
            let session = to.visit(&stream.dbname)?;
            member.had_publication = publications::find(&session, &stream.pubname)?.is_some();
        }
    }
    pause.entry.generation = newest + 1;
    journal::record(&pause.sessions.connect.session, config, &pause.entry)?;
    if pause.entry.purpose == Purpose::Switch {
        let mut backends = vec![backend_of(to.facts())];
        backends.extend(pause.sessions.on_to().map(|own| own.backend.clone()));
        for database in &pause.databases {
            let own = database.sessions.on_to();
            backends.extend(own.map(|own| own.backend.clone()));
        }
        let there = Entry {
            backends,
            ..pause.entry.clone()
        };
        journal::record(&pause.sessions.target.session, config, &there)?;
    }
    Ok(())
}
