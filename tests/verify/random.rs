//! Random tables, rows and single changes: each change is found, and nothing else.

use super::{named, verify_data};
use crate::cutover::dice::Dice;
use crate::support::{Pair, matrix};

/// A column's type, a key it can be part of or not, and an expression for the value of row `i`.
const TYPES: [(&str, bool, &str); 14] = [
    ("int", true, "i"),
    ("bigint", true, "i * 4294967296"),
    ("text", true, "'t' || i"),
    ("varchar(20)", true, "'v ' || i || ' '"),
    ("char(12)", true, "'c' || i"),
    ("uuid", true, "md5(i::text)::uuid"),
    ("numeric", true, "i / 7.0"),
    (
        "timestamptz",
        true,
        "'2001-01-01 UTC'::timestamptz + i * interval '1.5 s'",
    ),
    ("date", true, "'2001-01-01'::date + i"),
    ("bytea", true, "decode(md5(i::text), 'hex')"),
    ("float8", false, "i / 3.0::float8"),
    ("jsonb", false, "jsonb_build_object('i', i, 'a', ARRAY[i])"),
    ("int[]", false, "ARRAY[i, NULL, i + 1]"),
    ("boolean", false, "i % 2 = 0"),
];

/// Names of columns: some are also what a statement calls a table, a number or a hash.
const NAMES: [&str; 12] = [
    "Col 1", "t", "h", "r", "n", "u", "s", "b", "k0", "v0", "it's", "größe",
];

/// A table with its rows and one change on the subscriber.
struct Plan {
    publisher: String,
    subscriber: String,
    rows: String,
    change: String,
    expected: String,
}

fn plan(dice: &mut Dice, at: usize, new: u32) -> Plan {
    let name = format!("r{at}");
    let first = dice.below(NAMES.len() as u64) as usize;
    let names = NAMES.iter().cycle().skip(first);
    let columns: Vec<(String, (&str, bool, &str))> = names
        .take(1 + dice.below(6) as usize)
        .map(|name| ((*name).to_owned(), dice.one_of(&TYPES)))
        .collect();
    let count = 20 + dice.below(200);
    let mut key: Vec<usize> = (0..columns.len()).filter(|it| columns[*it].1.1).collect();
    key.truncate(1 + dice.below(3) as usize);
    let keyed = !key.is_empty() && dice.below(4) > 0;
    if !keyed {
        key.clear();
    }
    let quoted = |column: usize| format!("\"{}\"", columns[column].0);
    let key_list: Vec<String> = key.iter().map(|it| quoted(*it)).collect();
    let constraint = match (keyed, dice.below(2)) {
        (false, _) => String::new(),
        (true, 0) => format!(", PRIMARY KEY ({})", key_list.join(", ")),
        (true, _) => format!(", UNIQUE ({})", key_list.join(", ")),
    };
    let define = |order: &[usize], dropped: bool, tail: &str| {
        let mut list: Vec<String> = order
            .iter()
            .map(|it| format!("{} {} NOT NULL", quoted(*it), columns[*it].1.0))
            .collect();
        if dropped {
            list.insert(list.len() / 2, "gone text".into());
        }
        let drop = if dropped {
            format!("; ALTER TABLE {name} DROP COLUMN gone")
        } else {
            String::new()
        };
        format!(
            "CREATE TABLE {name} ({}{constraint}){tail}{drop};\n",
            list.join(", ")
        )
    };
    let straight: Vec<usize> = (0..columns.len()).collect();
    let mut turned = straight.clone();
    turned.rotate_left(dice.below(columns.len() as u64) as usize);
    // From 13 on a subscriber may divide what the publisher has in one piece.
    let divide = new >= 13 && keyed && dice.below(3) == 0;
    let tail = if divide {
        format!(
        " PARTITION BY HASH ({key}); CREATE TABLE {name}_a PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 0);
          CREATE TABLE {name}_b PARTITION OF {name} FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        key = key_list[0]
    )
    } else {
        String::new()
    };
    let (dropped_here, dropped_there) = (dice.below(2) == 0, dice.below(2) == 0);
    let names: Vec<String> = straight.iter().map(|it| quoted(*it)).collect();
    let select = |row: &str| -> String {
        let values: Vec<String> = columns
            .iter()
            .map(|(_, it)| format!("({})", it.2))
            .collect();
        format!(
            "INSERT INTO {name} ({}) SELECT {} FROM {row}",
            names.join(", "),
            values.join(", ")
        )
    };
    let victim = 1 + dice.below(count);
    let identify: Vec<String> = straight
        .iter()
        .map(|it| {
            format!(
                "{}::text = ({})::{}::text",
                quoted(*it),
                columns[*it].1.2,
                columns[*it].1.0
            )
        })
        .collect();
    let one = format!(
        "(tableoid, ctid) = (SELECT t.tableoid, t.ctid FROM {name} t, (SELECT {victim} AS i) x WHERE {} LIMIT 1)",
        identify.join(" AND ")
    );
    let plain: Vec<usize> = straight
        .iter()
        .copied()
        .filter(|it| !key.contains(it))
        .collect();
    let kind = dice.below(3);
    let all: Vec<&str> = columns.iter().map(|it| it.0.as_str()).collect();
    let (change, expected) = match (kind, plain.is_empty(), keyed) {
        (0, ..) => (
            format!("DELETE FROM {name} WHERE {one}"),
            "missing".to_owned(),
        ),
        (1, false, true) => {
            let column = plain[dice.below(plain.len() as u64) as usize];
            // A value that no row has, whatever the type.
            let other = columns[column].1.2;
            let value = match columns[column].1.0 {
                "boolean" => format!("NOT {}", quoted(column)),
                declared => format!("(SELECT ({other})::{declared} FROM (SELECT 100000 AS i) x)"),
            };
            (
                format!("UPDATE {name} SET {} = {value} WHERE {one}", quoted(column)),
                format!("different {}", columns[column].0),
            )
        }
        _ => (select("(SELECT 100001 AS i) x"), "extra".to_owned()),
    };
    let columns_named = if keyed { String::new() } else { all.join(",") };
    Plan {
        publisher: define(&straight, dropped_here, "") + &identity(&name, keyed),
        subscriber: define(&turned, dropped_there, &tail) + &identity(&name, keyed && !divide),
        rows: select(&format!("generate_series(1, {count}) i")),
        change,
        expected: match expected.strip_prefix("different ") {
            Some(column) => format!("{name}: different: {column}"),
            None => format!("{name}: {expected}: {columns_named}"),
        },
    }
}

/// FULL suits every table here, but for those in parts.
fn identity(name: &str, simple: bool) -> String {
    if simple {
        format!("ALTER TABLE {name} REPLICA IDENTITY FULL;\n")
    } else {
        String::new()
    }
}

fn single_changes(old: u32, new: u32, tables: usize) {
    let mut dice = Dice::new();
    let plans: Vec<Plan> = (0..tables).map(|at| plan(&mut dice, at, new)).collect();
    let pair = Pair::new(old, new)
        .with_accounts(1)
        .replicating_with(|pair, server| {
            let here = std::ptr::eq(server, pair.publisher());
            for plan in &plans {
                server.sql(
                    pair.db(),
                    if here {
                        &plan.publisher
                    } else {
                        &plan.subscriber
                    },
                );
                if here {
                    server.sql(pair.db(), &plan.rows);
                }
            }
        });
    let equal = verify_data(&pair, &[]);
    assert_eq!(equal.ok().json()["equal"], true, "{old}-{new}: {equal}");
    for plan in &plans {
        pair.subscriber().sql(pair.db(), &plan.change);
    }
    let different = verify_data(&pair, &[]);
    let mut expected: Vec<&str> = plans.iter().map(|it| it.expected.as_str()).collect();
    expected.sort_unstable();
    // `table: kind key: columns` without the key.
    let mut found: Vec<String> = named(&different.code(3).json())
        .iter()
        .map(|it| {
            let (table, rest) = it.split_once(": ").expect("a table");
            let (kind, _) = rest.split_once(' ').expect("a kind");
            let (_, columns) = rest.rsplit_once(": ").expect("columns");
            format!("{table}: {kind}: {columns}")
        })
        .collect();
    found.sort();
    assert_eq!(found, expected, "{old}-{new}: {different}");
}

#[test]
fn single_changes_in_random_tables_are_found() {
    single_changes(11, 18, 12);
}

#[test]
#[ignore = "all pairs: make soak"]
fn single_changes_in_random_tables_are_found_on_all_pairs() {
    matrix::for_some_pairs(|old, new| single_changes(old, new, 60));
}
