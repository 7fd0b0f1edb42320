//! How far a migration has come, and the command that comes next: decided by what is known of it, nothing is asked here.

use serde::Serialize;

use super::migration_status::MigrationStatus;
use crate::copy::UnderWay;
use crate::cutover::Writable;
use crate::ddl::StuckStatement;
use crate::journal::Direction;
use crate::observe::LagStatus;
use crate::value::ShellWord;

/// How far a migration has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// A server could not be asked: it does not answer, or it refuses.
    Unknown,
    /// Nothing is on the subscriber yet.
    NotBegun,
    /// The roles are there.
    Roles,
    /// The schema is there.
    Schema,
    /// The publication is there.
    Publication,
    /// Tables are being copied.
    Copying,
    /// An `initial_copy` was cut off.
    CopyInterrupted,
    /// A clone is to become the subscriber.
    Adopting,
    /// Every table follows.
    Replicating,
    /// The subscription will not go on by itself.
    Broken,
    /// Writes are paused.
    Paused,
    /// The switch is made, and what comes after it is not complete.
    Finishing,
    /// The application writes on the subscriber, and the publisher follows.
    CutOver,
    /// The application was moved to the subscriber; whether the way back runs is unknown, a server could not be asked.
    CutOverUnseen,
    /// The application writes on the subscriber, and nothing leads back.
    OneWay,
    /// It was cut over, and writes on the publisher again; the subscriber follows.
    FallenBack,
    /// The migration is over: nothing of flare is left.
    CleanedUp,
}

impl Stage {
    /// As a person is told it.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Stage::Unknown => "unknown, a server could not be asked",
            Stage::NotBegun => "not begun",
            Stage::Roles => "roles are replicated",
            Stage::Schema => "the schema is replicated",
            Stage::Publication => "the publication is there",
            Stage::Copying => "tables are being copied",
            Stage::CopyInterrupted => "the copy was INTERRUPTED",
            Stage::Adopting => "a clone is being adopted",
            Stage::Replicating => "replicating, ready to cut over",
            Stage::Broken => "BROKEN",
            Stage::Paused => "writes are paused",
            Stage::Finishing => "switched, what comes after is not complete yet",
            Stage::CutOver => "cut over, the way back runs",
            Stage::CutOverUnseen => "cut over, a server could not be asked",
            Stage::OneWay => "cut over, nothing leads back",
            Stage::FallenBack => "fallen back, replicating, ready to cut over again",
            Stage::CleanedUp => "cut over and cleaned up",
        }
    }
}

impl MigrationStatus {
    /// The furthest stage that holds.
    pub(super) fn stage(&self, lag: LagStatus) -> Stage {
        match (self.writable, self.direction) {
            _ if self.cleaned_up => return Stage::CleanedUp,
            (Some(Writable::None), _) => return Stage::Paused,
            _ if self.finishing => return Stage::Finishing,
            (_, Direction::Back) if !self.reverse => return Stage::OneWay,
            (_, Direction::Back) if lag == LagStatus::Critical => return Stage::Broken,
            (_, Direction::Back) if lag == LagStatus::Unknown => return Stage::CutOverUnseen,
            (_, Direction::Back) => return Stage::CutOver,
            (_, Direction::Forward) => {}
        }
        match &self.copy {
            Some(UnderWay::Copy(copy)) if copy.at_work => return Stage::Copying,
            Some(UnderWay::Copy(_)) => return Stage::CopyInterrupted,
            Some(UnderWay::Adoption { .. }) => return Stage::Adopting,
            None => {}
        }
        let (Some(roles), Some(schema), Some(publication), Some(subscription)) =
            (self.roles, self.schema, self.publication, self.subscription)
        else {
            return Stage::Unknown;
        };
        let copied = self.tables.is_some_and(|it| it.ready == it.total);
        match (subscription, lag) {
            (true, LagStatus::Critical) => Stage::Broken,
            (true, _) if copied && self.switched => Stage::FallenBack,
            (true, _) if copied => Stage::Replicating,
            (true, _) => Stage::Copying,
            (false, _) if !roles => Stage::NotBegun,
            (false, _) if !schema => Stage::Roles,
            (false, _) if !publication => Stage::Schema,
            (false, _) => Stage::Publication,
        }
    }

    /// What to type next.
    pub(super) fn next_command(&self) -> String {
        let (subname, dbname) = (ShellWord(&self.subname), ShellWord(&self.dbname));
        match self.stage {
            Stage::CopyInterrupted | Stage::Adopting => self
                .copy
                .as_ref()
                .map_or(String::new(), |copy| copy.next_command(&self.subname, &self.dbname)),
            Stage::Copying if self.copy.is_some() => {
                "flare status, until the copy is done".to_owned()
            }
            Stage::Unknown => "flare verify_connectivity".to_owned(),
            Stage::NotBegun | Stage::Roles | Stage::Schema | Stage::Publication => {
                if self.abandoned && self.schema == Some(true) { format!(
                    "keep clients away from {:?} on the subscriber, drop it there, then flare prepare {subname}",
                    self.dbname
                ) } else { format!("flare prepare {subname}") }
            }
            Stage::Copying if !self.awaited && !self.switched => format!(
                "flare prepare {subname}, which waits for the copy and does what is left; flare monitor {dbname} {subname} shows how far it is"
            ),
            Stage::Copying => format!("flare monitor {dbname} {subname}"),
            Stage::Replicating | Stage::FallenBack => format!("flare cutover {subname}"),
            Stage::CutOver => {
                format!(
                    "flare cleanup {subname} when all is well, flare fallback {subname} when not"
                )
            }
            _ if self.is_stranded() => format!(
                "start the subscriber again; when it is lost for good, flare fallback {subname} --abandon-target"
            ),
            Stage::CutOverUnseen => "flare verify_connectivity".to_owned(),
            Stage::OneWay => format!("flare cleanup {subname}"),
            Stage::CleanedUp => "nothing is left to do".to_owned(),
            Stage::Broken => match self.statements.iter().find(|it| it.error.is_some()) {
                Some(StuckStatement { id, .. }) => format!(
                    "flare ddl {dbname} --retry when the cause of statement {id} is mended, --skip {id}, or --replace {id} 'SQL'"
                ),
                None => format!("flare lag {subname}"),
            },
            Stage::Paused if let Some(side) = self.unopened => format!(
                "start the {side} again, and flare status; when it is lost for good, flare fallback {subname} --abandon-target"
            ),
            Stage::Paused if self.switching => {
                "flare status, which finishes or undoes the run when it has stopped and both servers answer".to_owned()
            }
            Stage::Finishing => {
                "flare status, which finishes the run when it has stopped and both servers answer".to_owned()
            }
            Stage::Paused => format!("flare resume_write {dbname}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sides::Sides;
    use super::*;
    use crate::observe::Tables;

    fn standing() -> MigrationStatus {
        MigrationStatus {
            subname: "sub".into(),
            dbname: "shop".into(),
            stage: Stage::Unknown,
            next: String::new(),
            writable: Some(Writable::Publisher),
            direction: Direction::Forward,
            switched: false,
            reverse: false,
            cleaned_up: false,
            abandoned: false,
            awaited: true,
            switching: false,
            unopened: None,
            finishing: false,
            paused_since: None,
            paused_by: None,
            roles: Some(true),
            schema: Some(true),
            publication: Some(true),
            subscription: Some(true),
            tables: Some(Tables { total: 2, ready: 2 }),
            lag_bytes: None,
            lag_seconds: None,
            lag_seconds_at_most: None,
            copy: None,
            message: None,
            obstacle: None,
            sides: Sides::default(),
            drift: None,
            differs: false,
            statements: Vec::new(),
        }
    }

    #[test]
    fn the_stage_is_the_furthest_that_holds() {
        let of = |change: fn(&mut MigrationStatus)| {
            let mut standing = standing();
            change(&mut standing);
            standing.stage(LagStatus::Ok)
        };
        assert_eq!(of(|_| ()), Stage::Replicating);
        assert_eq!(standing().stage(LagStatus::Critical), Stage::Broken);
        assert_eq!(
            of(|it| it.tables = Some(Tables { total: 2, ready: 1 })),
            Stage::Copying
        );
        assert_eq!(of(|it| it.subscription = Some(false)), Stage::Publication);
        let without = |publication, schema, roles| {
            let mut standing = standing();
            standing.subscription = Some(false);
            (standing.publication, standing.schema, standing.roles) =
                (Some(publication), Some(schema), Some(roles));
            standing.stage(LagStatus::Critical)
        };
        assert_eq!(without(false, true, true), Stage::Schema);
        assert_eq!(without(false, false, true), Stage::Roles);
        assert_eq!(without(false, false, false), Stage::NotBegun);
        assert_eq!(of(|it| it.roles = None), Stage::Unknown);
        assert_eq!(of(|it| it.writable = Some(Writable::None)), Stage::Paused);
        assert_eq!(of(|it| it.switched = true), Stage::FallenBack);
        assert_eq!(of(|it| it.direction = Direction::Back), Stage::OneWay);
        let back = of(|it| (it.direction, it.reverse) = (Direction::Back, true));
        assert_eq!(back, Stage::CutOver);
        let mut unseen = standing();
        (unseen.direction, unseen.reverse) = (Direction::Back, true);
        (unseen.writable, unseen.roles) = (Some(Writable::Subscriber), None);
        unseen.stage = unseen.stage(LagStatus::Unknown);
        assert_eq!(unseen.stage, Stage::CutOverUnseen);
        assert!(unseen.next_command().contains("--abandon-target"));
        let mut broken = standing();
        broken.stage = broken.stage(LagStatus::Critical);
        assert_eq!(broken.next_command(), "flare lag sub");
        broken.statements.push(StuckStatement {
            id: 7,
            at: String::new(),
            role: "r".into(),
            tag: "ALTER TABLE".into(),
            statement: "ALTER TABLE t ADD c int".into(),
            error: Some("there is none".into()),
            stops: true,
        });
        let next = broken.next_command();
        assert!(
            next.starts_with("flare ddl shop --retry") && next.contains("--skip 7"),
            "{next}"
        );
        assert_eq!(of(|it| it.cleaned_up = true), Stage::CleanedUp);
        assert_eq!(of(|it| it.finishing = true), Stage::Finishing);
    }
}
