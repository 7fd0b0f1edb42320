//! What is put in place: roles, schema, extensions, grants, publication, subscription, sequences.
//!
//! Each file keeps what decides (a [`Plan`], pure) apart from what acts ([`Plan::carry_out`]).

pub(crate) mod database;
pub(crate) mod extensions;
pub(crate) mod grants;
mod load;
mod plan;
pub(crate) mod roles;
pub(crate) mod schema;
mod setting;

pub use extensions::{ExtensionList, ExtensionStatus, ExtensionsChange};
pub use plan::{Change, Done};
pub(crate) use plan::{Mode, Plan, Run};
pub use roles::{PasswordPolicy, RoleAttributes, RolesChange, RolesOptions};
pub use schema::{SchemaChange, SchemaOutcome, Treated};
