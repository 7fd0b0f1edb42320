//! The canonical form of a value: one spelling that is the same on every version, whatever the settings.
//!
//! [`Form`] is decided from type descriptions alone. A value whose send function writes the same bytes on every server is
//! taken as it is: `record_send` converts text to the client's encoding. Send functions of arrays and records of a
//! user's types carry oids, those of `reg*` types carry the oids of objects: these go by their text.

use std::collections::HashMap;

use serde::Deserialize;

use crate::value::Ident;

/// Types made by initdb are below this (`FirstNormalObjectId`), and have the same oid everywhere.
const FIRST_USER_OID: u32 = 16384;

/// A type as `pg_type` describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct TypeInfo {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// Its `format_type`, qualified, without a modifier.
    pub(super) written: String,
    /// `pg_type.typtype`.
    pub(super) typtype: String,
    /// The element's type, of a true array.
    pub(super) element: Option<u32>,
    /// What a domain is of.
    pub(super) base: Option<u32>,
    /// What a range is of.
    pub(super) subtype: Option<u32>,
    pub(super) has_send: bool,
    /// Of a composite type, in their order.
    pub(super) fields: Vec<Field>,
}

/// A column of a composite type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Field {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) type_oid: u32,
}

/// The types of one server, by oid.
pub(super) type Types = HashMap<u32, TypeInfo>;

/// Whether floats are printed alike on both servers: from 12 on shortest, before with 17 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FloatText {
    Alike,
    Differs,
}

/// How a value is spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As its send function writes it.
    Sent,
    /// `inf - inf` is stored with other bits than it arrives with.
    Float,
    /// As the type below the domain.
    Domain { base: String, form: Box<Form> },
    /// As text, in a row so that NULL and blanks stay what they are.
    Text,
    /// A range of a user's type: its send function carries no oid.
    Range,
    /// A composite value, field by field.
    Composite(Vec<(Ident, Form)>),
    /// An array, element by element.
    Array(Box<Form>),
    /// The extension cube's, coordinate by coordinate.
    Cube { schema: Ident },
}

/// Types of objects: their binary form is an oid.
const OBJECT_TYPES: [&str; 11] = [
    "regclass",
    "regtype",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regnamespace",
    "regrole",
    "regconfig",
    "regdictionary",
    "regcollation",
];

const FLOATS: [&str; 2] = ["float4", "float8"];
const MADE_OF_FLOATS: [&str; 7] = ["point", "line", "lseg", "box", "path", "polygon", "circle"];

/// The form of a type's values on one server.
pub(super) fn form(types: &Types, oid: u32, floats: FloatText) -> Form {
    let Some(found) = types.get(&oid) else {
        return Form::Text;
    };
    if let Some(base) = found.base {
        let below = types.get(&base);
        return Form::Domain {
            base: below.map_or_else(String::new, |below| below.written.clone()),
            form: Box::new(form(types, base, floats)),
        };
    }
    if found.is_builtin() && FLOATS.contains(&found.name.as_str()) {
        return Form::Float;
    }
    if sends_alike(types, oid) {
        return Form::Sent;
    }
    if floats == FloatText::Alike || !holds_floats(types, oid) {
        return Form::Text;
    }
    if found.name == "cube" {
        return Form::Cube {
            schema: Ident::new(&found.schema),
        };
    }
    if let Some(element) = found.element {
        return Form::Array(Box::new(form(types, element, floats)));
    }
    if found.subtype.is_some_and(|sub| sends_alike(types, sub)) {
        return Form::Range;
    }
    if found.typtype == "c" {
        let fields = found.fields.iter();
        let of = |field: &Field| (Ident::new(&field.name), form(types, field.type_oid, floats));
        return Form::Composite(fields.map(of).collect());
    }
    Form::Text
}

impl TypeInfo {
    fn is_builtin(&self) -> bool {
        self.oid < FIRST_USER_OID
    }
}

/// Whether its send function writes the same bytes on every server.
fn sends_alike(types: &Types, oid: u32) -> bool {
    let Some(found) = types.get(&oid) else {
        return false;
    };
    let element = found.element;
    found.is_builtin()
        && found.has_send
        && !matches!(found.typtype.as_str(), "d" | "c" | "p")
        && !OBJECT_TYPES.contains(&found.name.as_str())
        && element.is_none_or(|element| sends_alike(types, element))
}

/// Whether values of it may be large, and equal ones have one text on every version.
pub(super) fn is_spelled_alike(types: &Types, oid: u32) -> bool {
    const PLAIN: [&str; 9] = [
        "text", "varchar", "bpchar", "bytea", "json", "jsonb", "xml", "bit", "varbit",
    ];
    types.get(&oid).is_some_and(|found| match found.base {
        Some(base) => is_spelled_alike(types, base),
        None => found.is_builtin() && PLAIN.contains(&found.name.as_str()),
    })
}

/// Whether values that are sent differently are different, and spelled so: floats have several NaNs.
pub(super) fn is_exact(types: &Types, oid: u32) -> bool {
    sends_alike(types, oid) && !holds_floats(types, oid)
}

fn holds_floats(types: &Types, oid: u32) -> bool {
    let Some(found) = types.get(&oid) else {
        return false;
    };
    let named = |names: &[&str]| names.contains(&found.name.as_str());
    let below = [found.base, found.element, found.subtype];
    (found.is_builtin() && (named(&FLOATS) || named(&MADE_OF_FLOATS)))
        || found.name == "cube"
        || below
            .into_iter()
            .flatten()
            .any(|it| holds_floats(types, it))
        || found
            .fields
            .iter()
            .any(|it| holds_floats(types, it.type_oid))
}

impl Form {
    /// The expression that spells `value` in this form.
    pub(super) fn of(&self, value: &str) -> String {
        match self {
            Form::Sent => value.to_owned(),
            Form::Float => format!("CASE WHEN {value} = 'NaN' THEN 'NaN' ELSE {value} END"),
            Form::Domain { base, form } => form.of(&format!("({value})::{base}")),
            Form::Text => format!("ROW({value})::text"),
            Form::Range => format!("range_send({value})"),
            Form::Composite(fields) => {
                let of = |(name, form): &(Ident, Form)| form.of(&format!("({value}).{name}"));
                let fields: Vec<String> = fields.iter().map(of).collect();
                format!(
                    "CASE WHEN ROW({value})::text <> '()' THEN record_send(ROW({})) END",
                    fields.join(", ")
                )
            }
            Form::Array(form) => format!(
                "CASE WHEN {value} IS NOT NULL THEN record_send(ROW(array_dims({value}), \
                 ARRAY(SELECT {} FROM (SELECT unnest({value}) AS u OFFSET 0) s))) END",
                form.of("s.u")
            ),
            Form::Cube { schema } => format!(
                "CASE WHEN {value} IS NOT NULL THEN record_send(ROW({schema}.cube_is_point({value}), \
                 ARRAY(SELECT {schema}.cube_coord({value}, g) FROM generate_series(1, {schema}.cube_dim({value}) \
                 * CASE WHEN {schema}.cube_is_point({value}) THEN 1 ELSE 2 END) g))) END"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(oid: u32, name: &str) -> TypeInfo {
        TypeInfo {
            oid,
            schema: "pg_catalog".into(),
            name: name.into(),
            written: name.into(),
            typtype: "b".into(),
            has_send: true,
            ..TypeInfo::default()
        }
    }

    fn types() -> Types {
        let user = |oid: u32, name: &str| TypeInfo {
            schema: "app".into(),
            written: format!("app.{name}"),
            ..base(oid, name)
        };
        let all = [
            base(23, "int4"),
            base(25, "text"),
            base(701, "float8"),
            base(600, "point"),
            base(2205, "regclass"),
            TypeInfo {
                element: Some(23),
                ..base(1007, "_int4")
            },
            TypeInfo {
                element: Some(2205),
                ..base(2210, "_regclass")
            },
            TypeInfo {
                has_send: false,
                ..base(1033, "aclitem")
            },
            TypeInfo {
                typtype: "d".into(),
                base: Some(701),
                ..user(20_000, "degrees")
            },
            TypeInfo {
                typtype: "e".into(),
                ..user(20_001, "mood")
            },
            TypeInfo {
                typtype: "c".into(),
                fields: vec![
                    Field {
                        name: "Id".into(),
                        type_oid: 23,
                    },
                    Field {
                        name: "at".into(),
                        type_oid: 20_000,
                    },
                ],
                ..user(20_002, "place")
            },
            TypeInfo {
                element: Some(20_002),
                ..user(20_003, "_place")
            },
            TypeInfo {
                typtype: "r".into(),
                subtype: Some(701),
                ..user(20_004, "floatrange")
            },
            user(20_005, "cube"),
            user(20_006, "citext"),
        ];
        all.into_iter().map(|it| (it.oid, it)).collect()
    }

    fn spelled(oid: u32, floats: FloatText) -> String {
        form(&types(), oid, floats).of("t.c")
    }

    #[test]
    fn built_in_types_go_as_they_are_sent() {
        for oid in [23, 25, 600, 1007] {
            assert_eq!(spelled(oid, FloatText::Alike), "t.c");
            assert_eq!(spelled(oid, FloatText::Differs), "t.c");
        }
    }

    #[test]
    fn what_carries_oids_or_sends_nothing_goes_as_text() {
        for oid in [2205, 2210, 1033, 20_001, 20_006, 99_999] {
            assert_eq!(spelled(oid, FloatText::Differs), "ROW(t.c)::text");
        }
        for oid in [20_002, 20_003, 20_004, 20_005] {
            assert_eq!(spelled(oid, FloatText::Alike), "ROW(t.c)::text");
        }
    }

    #[test]
    fn there_is_one_nan_also_below_a_domain() {
        assert_eq!(
            spelled(701, FloatText::Alike),
            "CASE WHEN t.c = 'NaN' THEN 'NaN' ELSE t.c END"
        );
        assert_eq!(
            spelled(20_000, FloatText::Alike),
            "CASE WHEN (t.c)::float8 = 'NaN' THEN 'NaN' ELSE (t.c)::float8 END"
        );
    }

    #[test]
    fn floats_inside_a_users_type_go_by_their_bits_across_12() {
        assert_eq!(spelled(20_004, FloatText::Differs), "range_send(t.c)");
        assert_eq!(
            spelled(20_002, FloatText::Differs),
            "CASE WHEN ROW(t.c)::text <> '()' THEN record_send(ROW((t.c).\"Id\", \
             CASE WHEN ((t.c).\"at\")::float8 = 'NaN' THEN 'NaN' ELSE ((t.c).\"at\")::float8 END)) END"
        );
        let array = spelled(20_003, FloatText::Differs);
        assert!(
            array.contains("array_dims(t.c)") && array.contains("(s.u).\"Id\""),
            "{array}"
        );
        assert!(spelled(20_005, FloatText::Differs).contains("\"app\".cube_coord(t.c, g)"));
    }
}
