//! *from* receives clients again, read-only, where the pause could not say so itself.

use crate::config::{Config, Left};
use crate::cutover::before::run_lock::privileges_of;
use crate::cutover::pause::open::restore_now;
use crate::cutover::sessions::as_database_owner;
use crate::error::{Result, WrapErr};
use crate::journal::{self, Entry};
use crate::server::Publisher;

/// Clients of the server that was left find it read-only, where the run has not come so far: one that refuses them keeps a
/// client whose list of hosts begins with it.
pub(super) fn answer(from: &Publisher, config: &Config, entry: &Entry) -> Result<()> {
    if config.cutover.left == Left::Shut {
        return Ok(());
    }
    for member in &entry.databases {
        let dbname = member.dbname.as_str();
        if journal::is_shut(from.admin(), dbname)? {
            as_database_owner(from, &[dbname], |session| {
                restore_now(session, &privileges_of(member))
            })
            .wrap_err_with(|| format!("give CONNECT back on the {}", from.side()))?;
        }
    }
    Ok(())
}
