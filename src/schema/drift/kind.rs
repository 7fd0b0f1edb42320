//! The kinds of objects, in the order in which they can be made, and what tells two of one kind apart.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::mend::Mend;
use super::short::short;
use super::{Drift, Row, Sides, Target, same};
use crate::error::{Result, WrapErr};
use crate::schema::keywords::names_of_10;
use crate::server::Side;

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are PostgreSQL's own")]
pub enum Kind {
    Role,
    Schema,
    Extension,
    Language,
    AccessMethod,
    BaseType,
    Enum,
    EnumValue,
    CompositeType,
    Domain,
    RangeType,
    Collation,
    Conversion,
    ForeignDataWrapper,
    ForeignServer,
    UserMapping,
    /// Options of a foreign data wrapper, a server, a foreign table or one of its columns.
    ForeignOptions,
    Sequence,
    Table,
    Column,
    ColumnOptions,
    Function,
    Aggregate,
    Operator,
    OperatorFamily,
    OperatorClass,
    Cast,
    Transform,
    TextSearch,
    Default,
    NotNull,
    OwnedBy,
    Options,
    Constraint,
    View,
    MaterializedView,
    Index,
    Inheritance,
    /// The index of a partition that belongs to one of the partitioned table.
    PartitionIndex,
    Statistics,
    ReplicaIdentity,
    /// The index that CLUSTER goes by.
    Cluster,
    Rule,
    Policy,
    RowSecurity,
    Trigger,
    Owner,
    Grants,
    DefaultPrivileges,
    Comment,
    SecurityLabel,
    /// The order of a table's columns: INSERT without a list of columns goes by it.
    ColumnOrder,
    EventTrigger,
    /// Of one role in another.
    Membership,
    /// Of a role or the database.
    Setting,
    /// The database's own owner, connection limit or comment.
    Database,
}

impl Kind {
    pub(super) fn parse(word: &str) -> Result<Kind> {
        serde_json::from_value(word.into()).wrap_err("read a row of the catalogs")
    }

    /// Something that others can belong to.
    pub(super) fn is_an_object(self) -> bool {
        use Kind::*;
        !matches!(
            self,
            Options
                | ForeignOptions
                | ColumnOptions
                | Default
                | NotNull
                | OwnedBy
                | ReplicaIdentity
                | Cluster
                | RowSecurity
                | Owner
                | Grants
                | DefaultPrivileges
                | Comment
                | SecurityLabel
                | ColumnOrder
                | Inheritance
                | PartitionIndex
        ) && !self.is_beside_schemas()
    }

    /// What is in no dump of a schema. The statement makes the subscriber's as the publisher's; what the subscriber alone
    /// has is its own.
    pub(crate) fn is_beside_schemas(self) -> bool {
        matches!(self, Kind::Membership | Kind::Setting | Kind::Database)
    }

    /// What the statement that makes the parent says of it already.
    pub(super) fn is_part_of_creation(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Column | Default | NotNull | ColumnOrder | ForeignOptions | PartitionIndex
        )
    }

    /// As it is said to people.
    pub fn in_words(self) -> String {
        let word = serde_json::to_value(self).unwrap_or_default();
        word.as_str().unwrap_or_default().replace('_', " ")
    }

    /// `with` is made together with it. What rests on the subscriber's object keeps it from being removed.
    pub(super) fn difference(
        self,
        name: &str,
        sides: &Sides,
        with: Vec<String>,
        target: &Target,
    ) -> Vec<Drift> {
        let drift = |statement: Option<String>, missing: bool| Drift {
            object: name.to_owned(),
            kind: self,
            publisher: sides.publisher.as_ref().map(|it| it.body.clone()),
            subscriber: sides.subscriber.as_ref().map(|it| it.body.clone()),
            statement,
            missing,
            advice: None,
        };
        let advised = |advice: String| Drift {
            advice: Some(advice),
            ..drift(None, false)
        };
        if self.is_beside_schemas() {
            let theirs = sides.subscriber.as_ref().map_or("", |it| it.body.as_str());
            let ours = sides.publisher.as_ref().filter(|it| it.body != theirs);
            let statement = ours.and_then(|it| it.make.clone());
            return statement
                .map(|it| drift(Some(it), false))
                .into_iter()
                .collect();
        }
        match (&sides.publisher, &sides.subscriber) {
            (Some(ours), None) if self == Kind::Role && ours.body.is_empty() => Vec::new(),
            (Some(ours), None) if self == Kind::ColumnOrder && !ours.body.is_empty() => Vec::new(),
            (Some(ours), None) => {
                let statements = ours.make.iter().cloned().chain(with).collect::<Vec<_>>();
                let known = ours.make.is_some().then(|| statements.join(";\n"));
                vec![Drift {
                    advice: known
                        .is_none()
                        .then(|| self.to_be_made_by_hand().to_owned()),
                    ..drift(known, true)
                }]
            }
            // Every server has its own.
            (None, Some(_)) if matches!(self, Kind::Role | Kind::Extension | Kind::ColumnOrder) => {
                Vec::new()
            }
            // A sequence that a column owns on the publisher has the owner of its table there.
            (None, Some(_)) if self == Kind::Owner => Vec::new(),
            (None, Some(theirs)) if theirs.away.is_none() => {
                vec![advised("take it away as what made it there describes: the catalogs have no statement for it".to_owned())]
            }
            (None, Some(theirs)) => vec![drift(theirs.away.clone(), false)],
            (Some(_), Some(_)) if self == Kind::Role => Vec::new(),
            (Some(ours), Some(theirs)) if same(self, &ours.body, &theirs.body) => Vec::new(),
            (Some(ours), Some(theirs)) => {
                if self == Kind::ColumnOrder && !same_columns(&ours.body, &theirs.body) {
                    return Vec::new();
                }
                match Mend::of(self, ours, theirs, target.version) {
                    Mend::Run { statement, adds } => vec![drift(Some(statement), adds)],
                    Mend::Each(values) => values,
                    Mend::Never(why) => vec![advised(why.to_owned())],
                    Mend::Unused(statement) => match target.users_of(self, &theirs.name) {
                        None => vec![drift(Some(statement), false)],
                        Some(users) => vec![advised(format!(
                            "{users}: drop that, run {statement}; and make it again"
                        ))],
                    },
                    Mend::Anew => {
                        let statements = again(self, ours, theirs).into_iter().chain(with);
                        let statement = statements.collect::<Vec<_>>().join(";\n");
                        match target.users_of(self, &theirs.name) {
                            None => vec![drift(Some(statement), false)],
                            Some(users) => vec![advised(format!(
                                "only DROP and CREATE change it, and {users}: drop that, run {statement}; and make it again"
                            ))],
                        }
                    }
                }
            }
            (None, None) => Vec::new(),
        }
    }

    /// Why there is no statement that makes it.
    fn to_be_made_by_hand(self) -> &'static str {
        match self {
            Kind::UserMapping => {
                "its options, which may hold a password, are not read: CREATE USER MAPPING with those that the publisher has"
            }
            Kind::BaseType => {
                "a type written in C is not described by the catalogs: install it as on the publisher"
            }
            _ => "make it as pg_dump of the publisher does",
        }
    }
}

/// The object removed and made. A materialized view that had rows gets them.
fn again(kind: Kind, ours: &Row, theirs: &Row) -> Option<String> {
    let (away, make) = (theirs.away.as_ref()?, ours.make.as_ref()?);
    let filled = if kind == Kind::MaterializedView {
        make.strip_suffix(" WITH NO DATA")
    } else {
        None
    };
    Some(format!("{away}; {}", filled.unwrap_or(make)))
}

impl Drift {
    /// What differs, for a person; the servers by the names that this migration gives them.
    pub(crate) fn in_words(&self, from: Side, to: Side) -> String {
        let what = format!("{} {}", self.kind.in_words(), self.object);
        match (&self.publisher, &self.subscriber) {
            (Some(_), None) => format!("{what} is only on the {from}"),
            (None, Some(_)) => {
                let lost = lost_by(self.statement.as_deref());
                format!("{what} is only on the {to}{lost}")
            }
            (ours, theirs) => {
                let [ours, theirs] = short([ours, theirs]);
                format!("{what} is {ours} on the {from} and {theirs} on the {to}")
            }
        }
    }

    /// Whether it is about what no dump has: a database that was made from one says nothing of it.
    pub(crate) fn is_in_no_dump(&self) -> bool {
        self.kind == Kind::Trigger && self.object.starts_with("of foreign key ")
    }

    /// Whether a dump may have changed it, so that a database that was made from one has it changed too: the columns of a
    /// child's parents come first in every dump.
    pub(crate) fn is_changed_by_dumps(&self) -> bool {
        self.kind == Kind::ColumnOrder
    }

    /// Whether it is about what is granted on the database itself, which is compared with its other properties.
    pub(crate) fn is_of_grants_on_database(&self) -> bool {
        self.kind == Kind::Grants && self.object.starts_with("DATABASE ")
    }

    /// Whether only the names of a range type's multirange type differ.
    pub(crate) fn is_of_multirange_name(&self) -> bool {
        let (Some(one), Some(other)) = (&self.publisher, &self.subscriber) else {
            return false;
        };
        let named = |part: &&str| !part.starts_with("MULTIRANGE_TYPE_NAME = ");
        self.kind == Kind::RangeType
            && one
                .split(", ")
                .filter(named)
                .eq(other.split(", ").filter(named))
    }

    /// Whether the application would meet it after the cutover. What the subscriber alone has and nobody runs into, and
    /// what only people read, does not count; nor does a replica identity, which the cutover makes equal by itself.
    pub(crate) fn matters(&self) -> bool {
        use Kind::*;
        let only_there = self.publisher.is_none();
        match self.kind {
            Comment | SecurityLabel | Statistics | ColumnOptions | Options | ReplicaIdentity
            | Cluster | Membership | Setting | Database => false,
            Index | PartitionIndex => {
                !only_there
                    || self
                        .subscriber
                        .as_ref()
                        .is_some_and(|it| it.contains("CREATE UNIQUE INDEX"))
            }
            // A child that only the subscriber's table has shows its rows there.
            Column | Constraint | NotNull | Default | Trigger | Rule | Policy | RowSecurity
            | EventTrigger | Inheritance => true,
            _ => !only_there,
        }
    }
}

/// What a statement that removes something takes with it, for a person to read before running it.
pub(crate) fn lost_by(statement: Option<&str>) -> &'static str {
    match statement {
        Some(it) if it.starts_with("DROP TABLE ") => ": DROP TABLE loses what rows it has",
        Some(it) if it.starts_with("ALTER TABLE ") && it.contains(" DROP COLUMN ") => {
            ": DROP COLUMN loses what values it has"
        }
        _ => "",
    }
}

fn same_columns(one: &str, other: &str) -> bool {
    let columns = |list: &str| -> BTreeSet<String> {
        let list = names_of_10(list);
        list.split(", ").map(str::to_owned).collect()
    };
    columns(one) == columns(other)
}

pub(super) fn holds_all_of(ours: &str, theirs: &str) -> bool {
    let ours: BTreeSet<&str> = ours.split(", ").collect();
    theirs == "nothing" || theirs.split(", ").all(|privilege| ours.contains(privilege))
}
