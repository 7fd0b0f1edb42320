//! What the schema has brought to the subscriber of what flare has made on the publisher: on record there too from the
//! cutover on, since the publisher may be gone when it is to be taken back.

use serde::{Deserialize, Serialize};

use super::known::Known;
use super::state::{Made, State};
use super::{Record, on_record, undoing};
use crate::error::Result;
use crate::server::Server;

/// It, under the oids of the server to which it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Brought {
    pub(super) made: Vec<Made>,
    /// What roles held before flare gave them default privileges.
    pub(super) held_before: Vec<Made>,
}

impl Record {
    /// With what it says was brought.
    pub(crate) fn with_brought(mut self) -> Record {
        if let Some(brought) = self.brought.take() {
            self.made.extend(brought.made);
            self.held_before.extend(brought.held_before);
        }
        self
    }

    /// Whether it says what was brought, were it nothing.
    pub(crate) fn knows_what_was_brought(&self) -> bool {
        self.brought.is_some()
    }
}

/// Puts on the subscriber's record what stands there of what is on the publisher's; whether there is a place for it.
pub(crate) fn keep(publisher: &Server, subscriber: &Server, dbname: &str) -> Result<bool> {
    let of_publisher = on_record(publisher, dbname)?;
    let mut record = Record::read(subscriber, dbname)?;
    let own = record.made.len();
    let all = record
        .clone()
        .with_those_of(&of_publisher, [publisher.major(), subscriber.major()]);
    let made = all.made.get(own..).unwrap_or_default();
    let session = subscriber.visit(dbname)?;
    let now = State::of(&session, &undoing::roles_of(made))?;
    let held = Known::of(&now.held);
    record.brought = Some(Brought {
        made: made
            .iter()
            .filter_map(|it| standing(it, &held, &now))
            .collect(),
        held_before: all
            .held_before
            .iter()
            .filter_map(|it| held.find(it).cloned())
            .collect(),
    });
    record.write(subscriber, dbname)
}

/// As the subscriber has it.
fn standing(it: &Made, held: &Known<'_>, now: &State) -> Option<Made> {
    match it {
        Made::Privilege { .. } | Made::DefaultPrivilege { .. } | Made::BypassRls { .. } => {
            held.find(it).cloned()
        }
        Made::ReplicaIdentity { table, was, is, .. } => Some(Made::ReplicaIdentity {
            table: table.clone(),
            oid: now.oids.get(table).copied(),
            was: was.clone(),
            is: is.clone(),
        }),
        Made::Setting { .. } | Made::NotValid { .. } => Some(it.clone()),
    }
}
