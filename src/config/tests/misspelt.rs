use proptest::prelude::*;
use proptest::sample::Index;

use super::{FULL, parse, problems};

/// The keys of the full example that flare knows, each with its line (from 1).
fn known_keys() -> Vec<(usize, &'static str)> {
    let own = FULL.find("\nhosts:").unwrap();
    let before = FULL[..own].lines().count();
    FULL.lines()
        .enumerate()
        .skip(before)
        .filter(|(_, line)| {
            !["# dbname", "# subname", "# option"]
                .iter()
                .any(|mark| line.contains(mark))
        })
        .filter_map(|(at, line)| {
            let (key, _) = line.trim_start_matches([' ', '-']).split_once(':')?;
            let is_key = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            is_key.then_some((at + 1, key))
        })
        .collect()
}

fn misspelt(key: &str, how: u8, at: Index, letter: char) -> String {
    let mut letters: Vec<char> = key.chars().collect();
    let at = at.index(letters.len());
    match how {
        0 => letters[at] = letter,
        1 => letters.insert(at, letter),
        2 => drop(letters.remove(at)),
        _ => {
            let at = at.min(key.len() - 2);
            letters.swap(at, at + 1);
        }
    }
    letters.into_iter().collect()
}

#[test]
fn the_full_example_has_every_group_of_keys() {
    let keys: Vec<&str> = known_keys().into_iter().map(|(_, key)| key).collect();
    for key in [
        "hosts",
        "conn",
        "env",
        "file",
        "command",
        "hostaddr",
        "options",
        "admin",
        "retained_wal",
        "wal_disk",
        "left",
        "leave_behind",
        "sslrootcert_via_publisher",
        "allow_untested",
        "status_schema",
    ] {
        assert!(keys.contains(&key), "{key}");
    }
    assert!(keys.len() > 65, "{}", keys.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_key_misspelt_by_a_letter_is_named_with_the_right_one(
        which: Index, how in 0u8..4, at: Index, letter in proptest::char::range('a', 'z'),
    ) {
        let keys = known_keys();
        let (line, key) = keys[which.index(keys.len())];
        let wrong = misspelt(key, how, at, letter);
        prop_assume!(wrong != key);
        let lines = FULL.lines().enumerate().map(|(number, text)| {
            if number + 1 == line {
                text.replacen(&format!("{key}:"), &format!("{wrong}:"), 1)
            } else {
                text.to_owned()
            }
        });
        let text = lines.collect::<Vec<String>>().join("\n");
        let found = problems(&text);
        let place = ["env", "file", "command"].contains(&key).then_some(line - 1);
        let marked = |line: usize| format!("f.yml:{line}: ");
        let reported = found.lines().any(|problem| {
            let placed = problem.contains(&marked(line)) || place.is_some_and(|line| problem.contains(&marked(line)));
            let meant = problem.split("did you mean \"").nth(1).and_then(|rest| rest.split('"').next());
            placed && meant.is_some_and(|meant| meant == key || strsim::damerau_levenshtein(meant, &wrong) == 1)
        });
        prop_assert!(reported, "{key} as {wrong} on line {line}: {found}");
    }

    #[test]
    fn arbitrary_text_is_an_error_and_no_panic(text in "(?s).{0,200}") {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn text_like_yaml_is_no_panic(text in r##"([a-c]|[ \n\t\r:,&*!?|>%@`'"#<~{}\[\]-]|<<: |\n  |- ){0,60}"##) {
        prop_assert!(parse(&text).is_err());
    }

    #[test]
    fn a_damaged_configuration_is_no_panic(at: Index, length in 0usize..40, put in r##"[ \na:,&*!{}\[\]'"#|>-]{0,4}"##) {
        let at = at.index(FULL.len());
        let end = (at + length).min(FULL.len());
        let _ = parse(&format!("{}{put}{}", &FULL[..at], &FULL[end..]));
    }
}
