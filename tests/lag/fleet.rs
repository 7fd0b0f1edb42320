//! `status --all`: one line for each migration of several configurations, whatever becomes of one of them.

use std::fs;

use super::replicating;
use crate::support::flare::Invocation;

#[test]
fn a_fleet_has_a_line_for_each_migration() {
    let (one, other) = (replicating(11, 14), replicating(13, 17));
    let dead = other.dir().join("dead.yml");
    let text = fs::read_to_string(other.config_path()).expect("the configuration");
    let port = other.publisher().port().to_string();
    fs::write(&dead, text.replace(&port, "1")).expect("write a file");
    let none = other.dir().join("none.yml");
    let files = [one.config_path(), dead, none, other.config_path()];
    let names: Vec<&str> = files
        .iter()
        .map(|it| it.to_str().expect("a path in UTF-8"))
        .collect();
    let all = |format: &str| {
        let mut args = vec!["status", "--format", format, "--all"];
        args.extend(&names);
        Invocation::new(&args).run()
    };
    let told = all("human");
    told.code(1).says("1 could not be asked");
    let lines: Vec<&str> = told.stdout().lines().collect();
    assert_eq!(lines.len(), 4, "{told}");
    for (line, file) in lines.iter().zip(&names) {
        assert!(line.starts_with(file), "{told}");
    }
    for (line, pair) in [(lines[0], &one), (lines[3], &other)] {
        assert!(line.contains(pair.subname()), "{told}");
        assert!(line.contains("writes on the publisher"), "{told}");
        // Others write on these servers as well, so it need not be 0.
        assert!(line.contains(" B, "), "{told}");
    }
    assert!(lines[1].contains("a server could not be asked"), "{told}");
    assert!(lines[2].contains("UNKNOWN: "), "{told}");
    // An error does not widen the columns of the others.
    assert!(!lines[3].contains(&" ".repeat(30)), "{told}");
    let report = all("json").code(1).json();
    let migrations = report["migrations"].as_array().expect("a list");
    let files: Vec<&str> = migrations
        .iter()
        .filter_map(|it| it["file"].as_str())
        .collect();
    assert_eq!(files, names, "{report}");
    assert_eq!(migrations[3]["subname"], other.subname(), "{report}");
    assert!(migrations[2]["error"].is_string(), "{report}");
}
