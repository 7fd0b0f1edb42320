//! Parameters that can travel to the session's thread, each with its type, so that a statement is one round trip.

use postgres::types::{ToSql, Type};
use uuid::Uuid;

/// A value with the type it is sent as.
pub(crate) type Param = (Box<dyn ToSql + Sync + Send>, Type);

/// What may be a parameter of a statement.
pub(crate) trait IntoParam {
    fn into_param(self) -> Param;
}

macro_rules! into_param {
    ($($rust:ty => $sql:ident),* $(,)?) => {$(
        impl IntoParam for $rust {
            fn into_param(self) -> Param {
                (Box::new(self), Type::$sql)
            }
        }
        impl IntoParam for &$rust {
            fn into_param(self) -> Param {
                self.clone().into_param()
            }
        }
    )*};
}

into_param! {
    String => TEXT,
    Option<String> => TEXT,
    Vec<String> => TEXT_ARRAY,
    Vec<Option<String>> => TEXT_ARRAY,
    Option<Vec<String>> => TEXT_ARRAY,
    bool => BOOL,
    Vec<bool> => BOOL_ARRAY,
    i32 => INT4,
    Vec<i32> => INT4_ARRAY,
    i64 => INT8,
    Vec<i64> => INT8_ARRAY,
    f64 => FLOAT8,
    Uuid => UUID,
    serde_json::Value => JSONB,
    Vec<u8> => BYTEA,
}

impl IntoParam for &str {
    fn into_param(self) -> Param {
        self.to_owned().into_param()
    }
}

impl IntoParam for crate::value::Lsn {
    /// As text: the statement casts it (`$1::pg_lsn`).
    fn into_param(self) -> Param {
        self.to_string().into_param()
    }
}

/// Parameters for a statement: `params![dbname, 5i64]`.
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::server::IntoParam::into_param($value)),*]
    };
}
pub(crate) use params;
