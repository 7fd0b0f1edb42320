//! The databases that move are there and can be entered.

use postgres::error::SqlState;
use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Refusal;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "database",
    title: "the database is there, and flare can enter it",
    before: Before::Setup,
    place: Place::Database,
    asks: &[DATABASES.on_publisher()],
    judge: |view| {
        let Some(moving) = view.moving else {
            return Ok(Vec::new());
        };
        let sides = [view.publisher, view.subscriber];
        let mut found: Vec<Finding> = sides
            .into_iter()
            .flatten()
            .filter_map(|side| Some((side, side.refused.as_ref()?)))
            .map(|(side, refused)| {
                let Refusal { sqlstate, words } = refused;
                Finding::blocker(format!("cannot be entered on the {}: {words}", side.side))
                    .fix(way_in(sqlstate, moving.dbname))
            })
            .collect();
        if let Some(publisher) = view.publisher {
            let databases = publisher.rows(&DATABASES)?;
            if !databases.iter().any(|it| it.datname == moving.dbname) {
                found.push(
                        Finding::blocker(format!("the {} has no such database", publisher.side)).fix(
                            "correct publications in the configuration; names are exact and never folded",
                        ),
                    );
            }
        }
        Ok(found)
    },
}];

/// A database as `pg_database` shows it; `None` where the version has no such column.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Database {
    pub(crate) datname: String,
    pub(crate) owner: String,
    pub(crate) encoding_name: String,
    pub(crate) datcollate: String,
    pub(crate) datctype: String,
    pub(crate) datlocprovider: Option<String>,
    pub(crate) datlocale: Option<String>,
    pub(crate) daticulocale: Option<String>,
    pub(crate) datconnlimit: i32,
}

pub(crate) const DATABASES: Question<Database> = Question::server(
    "databases",
    "SELECT to_jsonb(d) || jsonb_build_object('owner', pg_get_userbyid(d.datdba),
              'encoding_name', pg_encoding_to_char(d.encoding))
       FROM pg_database d",
);

fn way_in(refused: &SqlState, dbname: &str) -> String {
    let dbname = Ident::from(dbname);
    if *refused == SqlState::INSUFFICIENT_PRIVILEGE {
        format!("GRANT CONNECT ON DATABASE {dbname} to that user")
    } else if *refused == SqlState::TOO_MANY_CONNECTIONS {
        format!(
            "end some sessions there, or raise the limit that is reached: of the server, the database (ALTER DATABASE {dbname} CONNECTION LIMIT -1) or that user"
        )
    } else if *refused == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE {
        format!("ALTER DATABASE {dbname} ALLOW_CONNECTIONS true")
    } else if [SqlState::UNDEFINED_FILE, SqlState::INTERNAL_ERROR].contains(refused) {
        format!(
            "a library of session_preload_libraries or local_preload_libraries is missing there: ALTER DATABASE {dbname} RESET session_preload_libraries, the same for the role, or install the library"
        )
    } else {
        "mend what the server says".to_owned()
    }
}
