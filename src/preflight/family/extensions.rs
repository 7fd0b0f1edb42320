//! Extensions and libraries that the subscriber has to offer.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};
use crate::preflight::view::Ends;
use crate::server::Side;
use crate::value::Ident;

pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "extensions",
        title: "the subscriber offers every extension of the database",
        before: Before::Setup,
        place: Place::Database,
        asks: &[EXTENSIONS.on_both(), OFFERED.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            (Some(publisher), Some(subscriber))
                if !subscriber.server.unseen.contains_key(OFFERED.text.name) =>
            {
                Ok(not_offered(
                    &publisher.rows(&EXTENSIONS)?,
                    &subscriber.rows(&EXTENSIONS)?,
                    &subscriber.rows(&OFFERED)?,
                    view.ends(),
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
    Check {
        id: "untrusted_languages",
        title: "functions need no library and no rights that the subscriber lacks",
        before: Before::Setup,
        place: Place::Database,
        asks: &[FUNCTIONS.on_publisher(), LIBRARIES.on_subscriber()],
        judge: |view| match (view.publisher, view.subscriber) {
            // Those that were created there have been loaded.
            (Some(publisher), Some(subscriber)) if !view.subscribed => {
                let unseen = &subscriber.server.unseen;
                let seen = subscriber.major >= LIBRARIES.text.since
                    && !unseen.contains_key(LIBRARIES.text.name);
                let libraries = subscriber.rows(&LIBRARIES)?;
                Ok(untrusted(
                    &publisher.rows(&FUNCTIONS)?,
                    (subscriber.side, subscriber.superuser),
                    seen.then_some(libraries.as_slice()),
                ))
            }
            _ => Ok(Vec::new()),
        },
    },
];

/// An extension of a database.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Extension {
    extname: String,
    extversion: String,
}

const EXTENSIONS: Question<Extension> = Question::database(
    "extensions",
    "SELECT jsonb_build_object('extname', extname, 'extversion', extversion) FROM pg_extension ORDER BY extname",
);

/// An extension that could be installed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Offered {
    name: String,
    default_version: Option<String>,
}

const OFFERED: Question<Offered> = Question::server(
    "offered",
    "SELECT jsonb_build_object('name', name, 'default_version', default_version) FROM pg_available_extensions",
);

/// Functions in C or in a language that only a superuser may use, which belong to no extension.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Function {
    function: String,
    lanname: String,
    probin: Option<String>,
}

const FUNCTIONS: Question<Function> = Question::database(
    "untrusted_functions",
    "SELECT jsonb_build_object('function', p.oid::regprocedure, 'lanname', l.lanname, 'probin', encode(p.probin::text::bytea, 'escape'))
       FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
      WHERE p.oid >= 16384 AND NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'sql')
        AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
        AND NOT EXISTS (SELECT FROM pg_language h WHERE p.oid IN (h.lanplcallfoid, h.laninline, h.lanvalidator))",
);

/// Files where the server looks for libraries that are named without a directory, or in its own.
const LIBRARIES: Question<String> = Question::server(
    "libraries of functions",
    "SELECT DISTINCT to_jsonb(f) FROM pg_config c, regexp_split_to_table(current_setting('dynamic_library_path'), ':') d,
            pg_ls_dir(replace(d, '$libdir', c.setting), true, false) f
      WHERE c.name = 'PKGLIBDIR'",
)
.since(11)
.privileged();

impl Function {
    /// Whether its library is among these files; none where it is somewhere else.
    fn is_among(&self, libraries: &[String]) -> Option<bool> {
        let library = self.probin.as_deref()?;
        let name = library.strip_prefix("$libdir/").unwrap_or(library);
        (!name.contains('/')).then(|| {
            libraries
                .iter()
                .any(|file| file == name || file.strip_suffix(".so") == Some(name))
        })
    }
}

fn not_offered(
    wanted: &[Extension],
    installed: &[Extension],
    offered: &[Offered],
    Ends { from, to }: Ends,
) -> Vec<Finding> {
    let offers: BTreeMap<&str, Option<&str>> = offered
        .iter()
        .map(|it| (it.name.as_str(), it.default_version.as_deref()))
        .collect();
    let is_installed = |name: &str| installed.iter().any(|it| it.extname == name);
    let missing: Vec<&Extension> = wanted
        .iter()
        .filter(|it| !is_installed(&it.extname) && !offers.contains_key(it.extname.as_str()))
        .collect();
    let mut found = Vec::new();
    if let Some(first) = missing.first() {
        found.push(
            Finding::blocker(format!("the {to} does not offer extensions of the database"))
                .objects(missing.iter().map(|it| format!("{} {}", it.extname, it.extversion)))
                .fix(format!(
                    "install the package of the extension on the {to}'s machine, or DROP EXTENSION {} on the {from} when nothing uses it",
                    Ident::new(&first.extname)
                )),
        );
    }
    let newer: Vec<String> = wanted
        .iter()
        .filter(|it| !is_installed(&it.extname))
        .filter_map(|it| {
            let version = offers.get(it.extname.as_str()).copied().flatten()?;
            (version != it.extversion)
                .then(|| format!("{} {} -> {version}", it.extname, it.extversion))
        })
        .collect();
    if !newer.is_empty() {
        found.push(
            Finding::note(format!(
                "extensions are installed in the version that the {to} offers"
            ))
            .objects(newer),
        );
    }
    found
}

fn untrusted(
    functions: &[Function],
    (to, superuser): (Side, bool),
    libraries: Option<&[String]>,
) -> Vec<Finding> {
    let described = |it: &&Function| match &it.probin {
        Some(library) => format!("{} ({}, library {library})", it.function, it.lanname),
        None => format!("{} ({})", it.function, it.lanname),
    };
    let (compiled, others): (Vec<&Function>, Vec<&Function>) =
        functions.iter().partition(|it| it.lanname == "c");
    let there = |it: &&Function| libraries.and_then(|libraries| it.is_among(libraries));
    let (lacking, compiled): (Vec<&Function>, Vec<&Function>) = compiled
        .into_iter()
        .partition(|it| there(it) == Some(false));
    let (offered, unseen): (Vec<&Function>, Vec<&Function>) =
        compiled.into_iter().partition(|it| there(it).is_some());
    let mut found = Vec::new();
    if !lacking.is_empty() {
        found.push(
            Finding::blocker(format!(
                "functions in C that belong to no extension: the {to} does not have their libraries"
            ))
            .objects(lacking.iter().map(described))
            .fix("install these libraries there, made for its version, or drop the functions"),
        );
    }
    if !unseen.is_empty() {
        found.push(
            Finding::warning(format!("functions in C that belong to no extension: their libraries have to be on the {to}, made for its version"))
                .objects(unseen.iter().map(described))
                .fix("install these libraries there before the schema is loaded"),
        );
    }
    if !offered.is_empty() {
        found.push(
            Finding::note(format!(
                "functions in C that belong to no extension: the {to} has libraries of these names"
            ))
            .objects(offered.iter().map(described)),
        );
    }
    if !others.is_empty() && !superuser {
        found.push(
            Finding::blocker(format!(
                "functions in untrusted languages: only a superuser may create them on the {to}"
            ))
            .objects(others.iter().map(described))
            .fix(format!(
                "let a superuser of the {to} load the schema, or drop them"
            )),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    #[test]
    fn what_is_not_offered_blocks_unless_it_is_installed() {
        let extension = |name: &str| Extension {
            extname: name.into(),
            extversion: "1.0".into(),
        };
        let offered = |name: &str, version: &str| Offered {
            name: name.into(),
            default_version: Some(version.into()),
        };
        let wanted = [extension("a"), extension("b\"c")];
        let found = not_offered(&wanted, &[extension("a")], &[], Ends::FORWARD);
        assert_eq!(found[0].objects, ["b\"c 1.0"]);
        assert!(
            found[0]
                .fix
                .as_deref()
                .unwrap()
                .contains(r#"DROP EXTENSION "b""c""#)
        );
        let found = not_offered(
            &wanted,
            &[],
            &[offered("a", "1.0"), offered("b\"c", "2")],
            Ends::FORWARD,
        );
        assert_eq!(
            (found[0].severity, found[0].objects[0].as_str()),
            (Severity::Pass, "b\"c 1.0 -> 2")
        );
    }

    #[test]
    fn untrusted_languages_are_a_superusers() {
        let function = |lanname: &str, library: Option<&str>| Function {
            function: "f()".into(),
            lanname: lanname.into(),
            probin: library.map(str::to_owned),
        };
        let python = function("plpython3u", None);
        assert!(
            untrusted(
                std::slice::from_ref(&python),
                (Side::Subscriber, true),
                None
            )
            .is_empty()
        );
        assert_eq!(
            untrusted(&[python], (Side::Subscriber, false), None)[0].severity,
            Severity::Blocker
        );
        let libraries = ["there.so".to_owned()];
        let severity = |library: &str, libraries: Option<&[String]>| {
            let found = untrusted(
                &[function("c", Some(library))],
                (Side::Subscriber, true),
                libraries,
            );
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].severity
        };
        for (library, expected) in [
            ("$libdir/there", Severity::Pass),
            ("there.so", Severity::Pass),
            ("$libdir/gone", Severity::Blocker),
            ("$libdir/deeper/there", Severity::Warning),
            ("/opt/lib/there.so", Severity::Warning),
        ] {
            assert_eq!(severity(library, Some(&libraries)), expected, "{library}");
            assert_eq!(severity(library, None), Severity::Warning, "{library}");
        }
    }
}
