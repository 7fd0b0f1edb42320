//! `replicate_roles`: the publisher's roles on the subscriber.

use crate::error::Result;
use crate::flare::{Flare, PasswordPolicy, RoleAttributes, RolesOptions};
use crate::report::Outcome;

/// Create and update the publisher's roles on the subscriber: attributes, passwords, settings, memberships
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Changes: roles of the subscriber, in one transaction. The publisher is only read. Roles that flare connects as on the \
subscriber keep attributes and password; the bootstrap superuser, rds* and pg_* roles are left alone.

Example:
  flare replicate_roles
  flare --config rds_test.yml replicate_roles --no-passwords --strip-options-for-rds")]
pub(crate) struct ReplicateRoles {
    /// Print the SQL, password hashes included unless --no-passwords is given, and change nothing
    #[arg(long)]
    only_dump: bool,
    /// Carry over no passwords (on Amazon RDS nobody may read them)
    #[arg(long)]
    no_passwords: bool,
    /// Leave out what Amazon RDS lets nobody set; found out without this flag as well
    #[arg(long)]
    strip_options_for_rds: bool,
    /// Show which roles would be created and updated, and change nothing
    #[arg(long, conflicts_with = "only_dump")]
    dry_run: bool,
}

impl ReplicateRoles {
    pub(crate) fn run(&self, flare: &Flare) -> Result<Outcome> {
        let options = RolesOptions {
            passwords: if self.no_passwords {
                PasswordPolicy::Omit
            } else {
                PasswordPolicy::Copy
            },
            attributes: if self.strip_options_for_rds {
                RoleAttributes::StripForRds
            } else {
                RoleAttributes::AsPermitted
            },
        };
        if self.only_dump {
            return Ok(Outcome::silent().sql(flare.dump_roles(options)?));
        }
        let change = flare.dry_run_if(self.dry_run).replicate_roles(options)?;
        Ok(Outcome::of(&change)?.changed(change.changed))
    }
}
