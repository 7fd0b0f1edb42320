//! What is put in place: roles, schema, extensions, grants, publication, subscription, sequences.
//!
//! Each file keeps what decides (a [`Plan`], pure) apart from what acts ([`Plan::carry_out`]).

mod borrowed;
mod briefly;
pub(crate) mod closed;
pub(crate) mod database;
pub(crate) mod drift;
pub(crate) mod extensions;
pub(crate) mod fence;
mod granted;
pub(crate) mod grants;
mod identity;
pub(crate) mod load;
pub(crate) mod made;
mod not_valid;
mod nudge;
pub(crate) mod options;
mod plan;
mod properties;
pub(crate) mod publication;
pub(crate) mod refresh;
pub(crate) mod reverse;
pub(crate) mod roles;
pub(crate) mod schema;
pub(crate) mod sequences;
pub(crate) mod setting;
pub(crate) mod slot;
pub(crate) mod status_table;
mod subscribing;
pub(crate) mod subscription;
pub(crate) mod unsubscribe;
pub(crate) mod vacuum;
pub(crate) mod views;
pub(crate) mod watch;
mod worker_settings;

pub use drift::MissingLoaded;
pub use extensions::{ExtensionList, ExtensionStatus, ExtensionsChange};
pub use plan::{Change, Done};
pub(crate) use plan::{Mode, Plan, Run};
pub use publication::InUse;
pub use roles::{PasswordPolicy, RoleAttributes, RolesChange, RolesOptions};
pub use schema::{SchemaChange, SchemaOutcome, Treated};
pub use sequences::{Sequence, Sequences};
pub use subscription::{Target, Wait};
pub use unsubscribe::{OldSlot, Unreachable};
