//! Names of ICU's locales. From 16 on PostgreSQL keeps them as language tags, such as `und-u-kf-lower-kn`; before, as they
//! were written, such as `@colCaseFirst=lower;colNumeric=yes`.

use std::collections::BTreeMap;

/// Whether two names mean one locale.
pub(crate) fn same_icu_locale(one: &str, other: &str) -> bool {
    one == other || tag(one) == tag(other)
}

/// ICU's own keywords, and those of a language tag (Unicode Technical Standard 35, "Key And Type Definitions").
const KEYS: [(&str, &str); 10] = [
    ("colalternate", "ka"),
    ("colbackwards", "kb"),
    ("colcaselevel", "kc"),
    ("colcasefirst", "kf"),
    ("colhiraganaquaternary", "kh"),
    ("colnormalization", "kk"),
    ("colnumeric", "kn"),
    ("colreorder", "kr"),
    ("colstrength", "ks"),
    ("collation", "co"),
];

const VALUES: [(&str, &str); 11] = [
    ("yes", "true"),
    ("no", "false"),
    ("non-ignorable", "noignore"),
    ("primary", "level1"),
    ("secondary", "level2"),
    ("tertiary", "level3"),
    ("quaternary", "level4"),
    ("identical", "identic"),
    ("phonebook", "phonebk"),
    ("traditional", "trad"),
    ("dictionary", "dict"),
];

fn known<'a>(names: &[(&str, &'a str)], name: &'a str) -> &'a str {
    let found = names.iter().find(|(icu, _)| *icu == name);
    found.map_or(name, |(_, tag)| tag)
}

/// The language with its region, and the attributes.
fn tag(name: &str) -> (String, BTreeMap<String, String>) {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let (language, attributes) = match (name.split_once('@'), name.split_once("-u-")) {
        (Some((language, keywords)), _) => {
            let pairs = keywords.split(';').filter_map(|it| it.split_once('='));
            let pairs = pairs.map(|(key, value)| {
                (
                    known(&KEYS, key).to_owned(),
                    known(&VALUES, value).to_owned(),
                )
            });
            (language.to_owned(), pairs.collect())
        }
        (None, Some((language, extension))) => (language.to_owned(), attributes(extension)),
        (None, None) => (name, BTreeMap::new()),
    };
    let language = match language.trim_end_matches("-x-icu") {
        "" | "root" => "und",
        language => language,
    };
    (language.to_owned(), attributes)
}

/// `kf-lower-kn-true`: a key has two letters, and one without a value is on.
fn attributes(extension: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut key: Option<&str> = None;
    for word in extension.split('-') {
        match key {
            _ if word.len() == 2 => {
                found.insert(word.to_owned(), String::new());
                key = Some(word);
            }
            Some(key) => {
                let value = found.entry(key.to_owned()).or_default();
                if !value.is_empty() {
                    value.push('-');
                }
                value.push_str(word);
            }
            None => {}
        }
    }
    for value in found.values_mut().filter(|it| it.is_empty()) {
        "true".clone_into(value);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_locale_has_several_names() {
        for (one, other) in [
            (
                "@colCaseFirst=lower;colNumeric=yes",
                "und-u-kf-lower-kn-true",
            ),
            ("@colNumeric=yes;colCaseFirst=lower", "und-u-kf-lower-kn"),
            ("de@collation=phonebook", "de-u-co-phonebk"),
            ("en_US", "en-US"),
            ("root", "und"),
            ("", "und"),
            ("und@colStrength=secondary", "und-u-ks-level2"),
        ] {
            assert!(same_icu_locale(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("de", "en"),
            ("und-u-ks-level1", "und-u-ks-level2"),
            ("@colNumeric=yes", "und-u-kn-false"),
            ("de@collation=phonebook", "de"),
        ] {
            assert!(!same_icu_locale(one, other), "{one} {other}");
        }
    }
}
