//! The connection string that a subscription carries: how one server reaches the other.

use super::{Login, Publisher};
use crate::error::Result;
use crate::value::Conninfo;

/// How the subscriber reaches the publisher's database, as one of the publisher's accounts.
pub(crate) fn conninfo_for_subscriber(
    publisher: &Publisher,
    login: Login,
    dbname: &str,
) -> Result<Conninfo> {
    let credentials = publisher.credentials(login)?;
    let via = &publisher.declared().via;
    let mut conninfo = Conninfo::new()
        .with("host", &via.host)
        .with("port", via.port)
        .with("dbname", dbname)
        .with("user", credentials.user())
        .with("sslmode", via.sslmode.as_str());
    if let Some(root) = &via.sslrootcert {
        conninfo = conninfo.with("sslrootcert", root.as_str());
    }
    Ok(conninfo.with_password(credentials.password()?))
}
