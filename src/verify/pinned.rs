//! Sessions whose settings are the same on both servers, and statements that start on both at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;
use postgres::Row;
use postgres::types::private::BytesMut;
use postgres::types::{Format, FromSql, IsNull, ToSql, Type};

use super::findings::text_of;
use crate::error::{Result, WrapErr};
use crate::server::{ActAs, Server, Session, Timeout, silence_session};

/// What a value's spelling or a plan could depend on. Row security is off for every session of flare's: without that, a
/// role that is not the owner would be shown fewer rows in silence.
const PINNED: &str = "
    SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; SET bytea_output = 'hex';
    SET extra_float_digits = 3; SET lc_monetary = 'C'; SET search_path = ''; SET quote_all_identifiers = off;
    SET array_nulls = on; SET xmlbinary = 'base64'; SET xmloption = 'content'; SET row_security = off;
    SET statement_timeout = 0; SET lock_timeout = 0; SET synchronous_commit = local";

/// A session of one side.
pub(super) struct Pinned {
    session: Session,
    major: i32,
    /// Whether a whole table may be read where an index could be used.
    seqscan: AtomicBool,
}

/// Text as the server's input and output functions know it, in whatever encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Text(pub(super) Vec<u8>);

/// A parameter in text format: the statement casts it.
#[derive(Debug)]
pub(super) enum Argument {
    One(Option<Text>),
    /// For `$n::text[]`.
    Many(Vec<Text>),
}

/// An answer that has been asked for.
pub(super) type Awaited = Receiver<Result<Vec<Row>, postgres::Error>>;

impl Pinned {
    /// Connects as who may read every table.
    pub(super) fn open(server: &Server, dbname: &str) -> Result<Pinned> {
        let session = server.connect(ActAs::Tables, dbname)?;
        let major = server.major();
        let mut settings = PINNED.to_owned();
        if major >= 12 {
            settings.push_str("; SET plan_cache_mode = force_custom_plan");
        }
        // Bytes without an encoding are no client's text: they are sent and taken as they are.
        settings.push_str(
            "; SELECT set_config('client_encoding', 'SQL_ASCII', false) WHERE current_setting('server_encoding') = 'SQL_ASCII'",
        );
        session
            .batch(&settings)
            .wrap_err("set what values are spelled with")?;
        session.set_timeout(Timeout::WhileServerAnswers);
        Ok(Pinned {
            session,
            major,
            seqscan: AtomicBool::new(true),
        })
    }

    /// Keeps the values that it sends and reads out of the server's log, where the role may.
    pub(super) fn silenced(self) -> Result<Pinned> {
        silence_session(&self.session, self.major)
            .wrap_err("keep values out of the server's log")?;
        Ok(self)
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    pub(super) fn major(&self) -> i32 {
        self.major
    }

    /// Starts a statement that walks an index, or one that may read whole tables.
    pub(super) fn start(&self, sql: &str, arguments: Vec<Argument>, scan: Scan) -> Result<Awaited> {
        let seqscan = scan == Scan::Any;
        let switch = self.seqscan.swap(seqscan, Ordering::SeqCst) != seqscan;
        let sql = sql.to_owned();
        log::trace!("{}: {sql}", self.session.endpoint());
        self.session.start(move |client| {
            if switch {
                client.batch_execute(if seqscan {
                    "SET enable_seqscan = on"
                } else {
                    "SET enable_seqscan = off"
                })?;
            }
            let typed: Vec<(&(dyn ToSql + Sync), Type)> = arguments
                .iter()
                .map(|it| (it as &(dyn ToSql + Sync), Type::UNKNOWN))
                .collect();
            client.query_typed(&sql, &typed)
        })
    }

    pub(super) fn wait(&self, answer: &Awaited) -> Result<Vec<Row>> {
        self.session.wait(answer, Timeout::WhileServerAnswers)
    }

    /// The rows of a statement that walks an index.
    pub(super) fn rows(&self, sql: &str, arguments: Vec<Argument>) -> Result<Vec<Row>> {
        let answer = self.start(sql, arguments, Scan::Index)?;
        self.wait(&answer)
    }
}

/// How a statement may find its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    Index,
    Any,
}

/// One session on each side.
pub(super) struct Both {
    pub(super) publisher: Pinned,
    pub(super) subscriber: Pinned,
}

/// A statement with its arguments.
pub(super) type Asked = (String, Vec<Argument>);

impl Both {
    /// Asks both sides, starting at once: one after the other, every chunk would differ under writers.
    pub(super) fn ask(
        &self,
        publisher: Asked,
        subscriber: Asked,
        scan: Scan,
    ) -> Result<(Vec<Row>, Vec<Row>)> {
        let one = self.publisher.start(&publisher.0, publisher.1, scan)?;
        let other = self.subscriber.start(&subscriber.0, subscriber.1, scan)?;
        Ok((self.publisher.wait(&one)?, self.subscriber.wait(&other)?))
    }
}

impl Text {
    /// For people.
    pub(super) fn shown(&self) -> String {
        text_of(&self.0)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(text.as_bytes().to_vec())
    }
}

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Text, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Text(raw.to_vec()))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TEXT
    }
}

impl ToSql for Argument {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Argument::One(None) => return Ok(IsNull::Yes),
            Argument::One(Some(text)) => out.extend_from_slice(&text.0),
            Argument::Many(texts) => out.extend_from_slice(&array_of(texts)),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    postgres::types::to_sql_checked!();
}

/// `{"a","b"}`, as array_in reads it.
fn array_of(texts: &[Text]) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.push(b'"');
        for byte in &text.0 {
            if matches!(byte, b'"' | b'\\') {
                out.push(b'\\');
            }
            out.push(*byte);
        }
        out.push(b'"');
    }
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_quoted_as_the_server_reads_them() {
        let texts = [Text::from("a\"b\\"), Text::from(""), Text::from("NULL")];
        assert_eq!(array_of(&texts), br#"{"a\"b\\","","NULL"}"#);
        assert_eq!(array_of(&[]), b"{}");
    }
}
