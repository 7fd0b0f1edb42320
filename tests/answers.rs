//! What flare prints where, and how it exits: for people, and for programs.

use serde_json::Value;

use crate::commands::{self, Needs};
use crate::support::Pair;
use crate::support::flare::{Invocation, program};
use crate::support::output::Output;
use crate::support::pair::Passwords;

/// The one object that every answer is.
#[track_caller]
fn answer(run: &Output, command: &str) -> Value {
    let answer = run.json();
    assert_eq!(answer["command"], command, "{run}");
    let ok = answer["ok"].as_bool().expect("ok");
    assert!(answer["changed"].is_boolean(), "{run}");
    assert!(answer.get("error").is_some(), "{run}");
    if ok {
        assert!(answer["error"].is_null(), "{run}")
    } else {
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(!message.is_empty() && !message.contains('\n'), "{run}");
        let hint = answer["error"]["hint"].as_str().unwrap_or_default();
        assert!(!hint.is_empty(), "{run}");
        // lag has one place to answer in, whatever the answer is.
        assert!(run.stderr().contains(hint) || command == "lag", "{run}");
        assert_ne!(run.status().code(), Some(0), "{run}");
    }
    assert_eq!(run.stdout().lines().count(), 1, "{run}");
    for (name, stream) in [("stdout", run.stdout()), ("stderr", run.stderr())] {
        assert!(!stream.contains('\u{1b}'), "colour in {name}: {run}");
        assert!(!stream.contains("panicked"), "{run}");
    }
    answer
}

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [more, args].concat()
}

#[test]
fn every_command_answers_with_one_object_when_it_succeeds() {
    let pair = Pair::alone(14, 18).with_accounts(10);
    let mut dropped = Vec::new();
    for command in commands::all(&pair) {
        // Those that take the replication apart come last.
        if command.name.starts_with("drop_") {
            dropped.insert(0, command);
            continue;
        }
        let run = pair.flare(&command.json());
        // Whether these succeed at this point is their own tests' subject.
        let later = [
            "adopt",
            "cleanup",
            "cutover",
            "ddl",
            "fallback",
            "initial_copy",
            "preflight",
            "prepare",
        ];
        if later.contains(&command.name.as_str()) {
            answer(&run, &command.name);
            continue;
        }
        assert_eq!(answer(run.ok(), &command.name)["ok"], true, "{run}");
    }
    for command in dropped {
        let run = pair.flare(&command.json());
        let told = answer(run.ok(), &command.name);
        assert_eq!(told["changed"], true, "{run}");
        // For a person the result is on standard output, and not JSON.
        let run = pair.flare(&command.args());
        assert!(!run.ok().stdout().starts_with('{'), "{run}");
        assert!(!run.stdout().is_empty(), "{run}");
        run.says("will touch");
    }
}

#[test]
fn every_command_answers_with_one_object_when_it_fails() {
    let pair = Pair::new(15, 18);
    pair.configure(|config| {
        for side in ["publisher", "subscriber"] {
            config["hosts"][side]["conn"]["port"] = 1.into();
        }
    });
    let unknown = pair.dir().join("none.yml").display().to_string();
    for command in commands::all(&pair) {
        let name = command.name.as_str();
        let args = command.json();
        // The command line.
        let usage = match name {
            "lag" => 3,
            _ => 2,
        };
        for format in [&["--format=json"][..], &["--format", "json"]] {
            let run = Invocation::new(&[format, &[name, "--no-such-flag", "--"]].concat()).run();
            if name != "exec" {
                let told = answer(run.code(usage), name);
                let message = told["error"]["message"].as_str().unwrap_or_default();
                assert!(message.contains("--no-such-flag"), "{run}");
            }
        }
        if command.needs == Needs::Nothing {
            continue;
        }
        // The configuration.
        let run = Invocation::new(&with(&args, &["--config", &unknown])).run();
        answer(run.code(usage), name);
        assert!(run.stderr().contains("none.yml"), "{run}");
        // The servers.
        let run = pair.flare(&args);
        let failed = match name {
            "lag" => 3,
            _ => 1,
        };
        let told = answer(run.code(failed), name);
        assert!(told["error"].to_string().contains("127.0.0.1:1"), "{run}");
        // For a person nothing of it is on standard output, but where looking is all there is.
        let run = pair.flare(&command.args());
        run.code(failed);
        match name {
            "lag" => run.prints("127.0.0.1:1"),
            "verify_connectivity" => run.says("error: "),
            _ => {
                assert_eq!(run.stdout(), "", "{run}");
                run.says("error: ")
            }
        };
    }
}

#[test]
fn what_is_not_declared_is_a_usage_error_that_names_what_is() {
    let pair = Pair::new(15, 18);
    for command in commands::of_migrations(&pair) {
        let mut args = command.json();
        let known = [pair.db(), pair.subname()];
        let names: Vec<usize> = (2..args.len())
            .filter(|at| known.contains(&args[*at]))
            .collect();
        for at in names {
            let was = std::mem::replace(&mut args[at], "nowhere");
            let run = pair.flare(&args);
            let usage = match command.name.as_str() {
                "lag" => 3,
                _ => 2,
            };
            // An application that is shut out is let in again, whatever has become of the configuration.
            let usage = match command.name.as_str() {
                "resume_write" => 1,
                _ => usage,
            };
            answer(run.code(usage), &command.name);
            run.says("nowhere").says("hint: ");
            args[at] = was;
        }
    }
}

#[test]
fn no_command_and_unknown_commands_are_usage_errors() {
    let run = Invocation::new(&["--format", "json"]).run();
    assert_eq!(run.code(2).json()["ok"], false);
    let run = Invocation::new(&["--format", "json", "replicate_everything"]).run();
    assert!(run.code(2).json()["error"]["message"].is_string(), "{run}");
    let run = Invocation::new(&["replicate_everything"]).run();
    assert_eq!(run.code(2).stdout(), "");
    Invocation::new(&["--version"]).run().ok().prints("flare ");
}

#[test]
fn every_command_tells_what_it_changes_and_gives_an_example() {
    for name in commands::listed() {
        let kebab = name.replace('_', "-");
        for spelling in [&name, &kebab] {
            let run = Invocation::new(&[spelling, "--help"]).run();
            run.ok().prints("Changes:").prints("Example:");
            run.prints(&format!("flare {name}"));
        }
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let pair = Pair::new(16, 18).with_accounts(10).replicating();
    let flare = program().display().to_string();
    let config = pair.config_path().display().to_string();
    let (db, sub) = (pair.db(), pair.subname());
    for args in [
        "--help".to_owned(),
        "completions bash".to_owned(),
        "man".to_owned(),
        format!("--config '{config}' count {db} pgbench_accounts"),
        format!("--config '{config}' --format json count {db} pgbench_accounts"),
        format!("--config '{config}' replicate_schema --only-dump {db}"),
        format!("--config '{config}' monitor --once {db} {sub}"),
        format!("--config '{config}' monitor --interval 100ms {db} {sub}"),
        format!("--config '{config}' --format json verify_connectivity"),
    ] {
        // The reader is gone before flare writes.
        let script = format!("{{ sleep 0.3; '{flare}' {args}; echo \"exit $?\" >&2; }} | true");
        let run = Invocation::of("sh", &["-c", &script])
            .env("PATH", crate::support::clients::path(18))
            .env("HOME", pair.dir())
            .secrets([Passwords::ADMIN.to_owned()])
            .run();
        run.says("exit 0");
        assert!(!run.stderr().contains("panicked"), "{args}: {run}");
        // Standard output closed from the start.
        let script = format!("'{flare}' {args} >&-; echo \"exit $?\" >&2");
        if args.contains("--interval") {
            continue;
        }
        let run = Invocation::of("sh", &["-c", &script])
            .env("PATH", crate::support::clients::path(18))
            .env("HOME", pair.dir())
            .run();
        assert!(!run.stderr().contains("panicked"), "{args}: {run}");
    }
}

#[test]
fn a_full_disk_under_standard_output_is_said() {
    let flare = program().display().to_string();
    for args in ["man", "completions bash", "--format json man"] {
        let script = format!("'{flare}' {args} > /dev/full");
        let run = Invocation::of("sh", &["-c", &script]).run();
        run.code(1).says("standard output");
    }
}

#[test]
fn a_configuration_that_others_can_read_is_warned_about() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;
    let pair = Pair::new(16, 18).with_accounts(10).replicating();
    let count = ["count", pair.db(), "pgbench_accounts"];
    assert_eq!(pair.flare(&count).ok().stderr(), "");
    set_permissions(pair.config_path(), Permissions::from_mode(0o644)).expect("open flare.yml");
    let run = pair.flare(&count);
    run.ok().says("chmod").says("flare.yml");
    assert_eq!(run.stdout(), "10\n");
}
