//! Proof that both sides agree.

use super::Flare;
use super::direction::oriented;
use crate::error::{Error, Result};
use crate::journal::{Direction, Stream};
use crate::server::{Opened, Pair};
use crate::value::{HostPort, ShellWord};
use crate::verify::{self, DataOptions, DataVerification, SchemaVerification};

impl Flare {
    /// Compares the rows of a subscription's tables on both sides, while the application writes, in the direction in
    /// which they flow now. The probes that it waits for are rows of `flare_replication_status`, taken away at the end.
    ///
    /// # Errors
    /// When nothing could be compared. Tables that could not be, and rows that differ, are in the result.
    pub fn verify_data(
        &self,
        subname: &str,
        options: &DataOptions,
    ) -> Result<DataVerification, Error> {
        let (configured, stream, direction) = self.stream_to_verify(subname)?;
        let pair = oriented(&configured, direction);
        let again = || {
            let tables = options.tables.iter().map(|table| {
                let plain =
                    Some(table.plain()).filter(|it| it.parse().ok().as_ref() == Some(table));
                let name = plain.unwrap_or_else(|| table.to_string());
                format!(" --table {}", ShellWord(&name))
            });
            format!(
                "flare verify_data {}{} --resume goes on where this run was cut off",
                ShellWord(subname),
                tables.collect::<String>()
            )
        };
        Ok(verify::verify(
            &configured,
            &pair,
            &stream,
            direction,
            options,
            &self.run,
            again,
        )?)
    }

    /// Compares the schema of a subscription's database on both sides, and what no dump of a schema holds.
    ///
    /// # Errors
    /// When it could not be compared. What differs is in the result.
    pub fn verify_schema(&self, subname: &str) -> Result<SchemaVerification, Error> {
        let (configured, stream, direction) = self.stream_to_verify(subname)?;
        let pair = oriented(&configured, direction);
        Ok(verify::verify_schema(
            &pair,
            &self.config.tools,
            &stream,
            direction,
            &self.run,
        )?)
    }

    /// Both servers of the configuration, which way the data flows, and what the replication between them is called.
    fn stream_to_verify(&self, subname: &str) -> Result<(Pair, Stream, Direction)> {
        let declared = self.config.subscription(subname)?;
        let dbname = &declared.dbname;
        let pair = self.open().both()?;
        let journals = self.journals(&Opened::from(pair.clone()))?;
        let direction = journals.flow(dbname).direction;
        let stream = Stream::of(dbname, subname, &declared.pubname, direction);
        let flowing = oriented(&pair, direction);
        let place = |server: &crate::server::Server| {
            let host = server.declared();
            format!("{} {}", server.side(), HostPort(&host.host, host.port))
        };
        self.run.progress.announce(&format!(
            "{} compares database {dbname:?} of {} with {}; direction {}; configuration {}",
            self.command,
            place(&flowing.publisher),
            place(&flowing.subscriber),
            direction.as_str(),
            self.config.path.display()
        ));
        Ok((pair, stream, direction))
    }
}
