//! What only a comparison of both databases tells of a subscription that follows: tables that nobody subscribed,
//! objects that have drifted apart, a side that is not closed as flare left it.

use super::direction::oriented;
use super::sides::side_of;
use super::{Flare, Journals};
use crate::catalog::publications;
use crate::catalog::side::{Replicated, SideState};
use crate::config::Subscription;
use crate::ddl;
use crate::error::{Failure, Result};
use crate::observe::Divergence;
use crate::replicate::{closed, drift};
use crate::server::{Pair, Session, at_once, params};
use crate::value::TableName;

impl Flare {
    /// For each of these subscriptions, or why it could not be asked.
    ///
    /// # Errors
    /// When a server or its journal could not be asked at all.
    pub(super) fn divergences(
        &self,
        declared: &[(&str, &Subscription)],
    ) -> Result<Vec<Result<Divergence>>> {
        let dbnames = declared.iter().map(|(_, it)| it.dbname.as_str());
        let opened = self.open_visiting(dbnames);
        let journals = self.journals(&opened)?;
        let pair = opened.both()?;
        std::thread::scope(|scope| {
            let asked: Vec<_> = declared
                .iter()
                .map(|(subname, declared)| {
                    let (pair, journals) = (&pair, &journals);
                    scope.spawn(move || self.divergence(pair, journals, subname, declared))
                })
                .collect();
            let found = asked.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Failure::new("compare the databases: its thread has ended").err()
                })
            });
            Ok(found.collect())
        })
    }

    fn divergence(
        &self,
        pair: &Pair,
        journals: &Journals,
        subname: &str,
        declared: &Subscription,
    ) -> Result<Divergence> {
        let dbname = &declared.dbname;
        let direction = journals.flow(dbname).direction;
        let pair = oriented(pair, direction);
        let stream = self.stream(subname, direction)?;
        let (from, to) = pair.visit(dbname)?;
        let (published, followed) = at_once(
            || publications::tables(&from, &stream.pubname),
            || {
                let subscribed = subscribed(&to, &stream.subname)?;
                Ok((
                    subscribed,
                    side_of((&pair.subscriber, &to), dbname, Replicated::Any)?,
                ))
            },
        );
        let (subscribed, facts) = followed?;
        let unsubscribed = published?
            .into_iter()
            .filter(|it| !subscribed.contains(it))
            .map(|it| it.plain())
            .collect();
        let paused = journals.shutting_out(dbname).is_some();
        let closed = closed::on_record(facts.record.as_deref(), dbname)?.is_some() && !paused;
        let gaps = match facts.state() {
            SideState::Open | SideState::PartlyClosed if closed => facts.gaps(),
            _ => Vec::new(),
        };
        let left = self.config.left_behind(dbname);
        let drift = drift::between(&pair, &from, &to)?;
        let drifted = drift::noticed(&drift, left)
            .into_iter()
            .map(|it| format!("{} {}", it.kind.in_words(), it.object))
            .collect();
        let ddl_gaps = ddl::gaps(&pair, (&from, &to), dbname, self.config.ddl)?;
        Ok(Divergence {
            unsubscribed_tables: Some(unsubscribed),
            drifted_objects: Some(drifted),
            side_gaps: Some(gaps),
            ddl_gaps: Some(ddl_gaps),
        })
    }
}

fn subscribed(session: &Session, subname: &str) -> Result<Vec<TableName>> {
    session.list(
        "SELECT jsonb_build_object('schema', n.nspname, 'table', c.relname)
           FROM pg_subscription_rel r JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE r.srsubid IN (SELECT subid FROM pg_stat_subscription WHERE subname = $1)",
        params![subname],
    )
}
