//! The connection string that a subscription carries: how one server reaches the other.

use super::{Login, Publisher, Server};
use crate::error::Result;
use crate::value::Conninfo;

/// How values are written for a subscriber that does not ask for that itself, as 15 and later do: without
/// `extra_float_digits` a publisher of 10 or 11 sends floats with 15 digits, and their last bits are lost.
const WRITTEN_EXACTLY: &str = "-c extra_float_digits=3 -c DateStyle=ISO -c IntervalStyle=postgres";

/// How the subscriber reaches the publisher's database, as one of the publisher's accounts.
pub(crate) fn conninfo_for_subscriber(
    publisher: &Publisher,
    subscriber: &Server,
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
    let exactly = (subscriber.major() < 15).then(|| WRITTEN_EXACTLY.to_owned());
    // A login trigger (17+) fires for the walsender too. The replication user's sessions have it in their role's settings.
    let unseen = publisher
        .unseen_as(login)
        .filter(|_| publisher.major() >= 17)
        .map(|unseen| format!("-c {unseen}"));
    let options: Vec<String> = exactly.into_iter().chain(unseen).collect();
    if !options.is_empty() {
        conninfo = conninfo.with("options", options.join(" "));
    }
    Ok(conninfo.with_password(credentials.password()?))
}
