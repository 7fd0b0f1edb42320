//! The README is true: its walk is walked, its commands are the program's.

use std::collections::BTreeSet;

use crate::support::flare::Invocation;
use crate::support::matrix;
use crate::walk::{Walk, Writers};

const README: &str = include_str!("../README.md");

/// The text of a chapter, headings below its own included.
fn chapter(title: &str) -> &'static str {
    let start = README
        .find(&format!("\n## {title}\n"))
        .unwrap_or_else(|| panic!("the README has no chapter {title:?}"));
    let rest = &README[start + 1..];
    match rest[3..].find("\n## ") {
        Some(end) => &rest[..end + 3],
        None => rest,
    }
}

/// The fenced blocks of a language, in order.
fn blocks(text: &'static str, language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(&fence) {
        rest = &rest[start + fence.len()..];
        let end = rest.find("```").expect("a fence that closes");
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
    found
}

fn carry_out(walk: &Walk, blocks: &[&str]) {
    for block in blocks {
        let output = walk.invocation("sh", &["-e", "-c", block]).run();
        let counts = |side: &str| -> Vec<&str> {
            let lines = output.ok().stdout().lines();
            lines.filter_map(|line| line.strip_prefix(side)).collect()
        };
        assert_eq!(counts("publisher "), counts("subscriber "), "{output}");
    }
}

#[test]
fn the_walk_leads_there_and_back_and_may_be_walked_again() {
    let config = blocks(chapter("A whole migration"), "yaml")[0];
    let walk = Walk::new(10, 18, config);
    let [set_up, there, back, pause, end] = [
        "Set up",
        "The cutover",
        "The way back",
        "The pause alone",
        "Afterwards",
    ]
    .map(|part| blocks(section(part), "sh"));
    for part in [&set_up, &there, &back, &pause, &end] {
        assert!(!part.is_empty());
    }
    let writers = Writers::start(&walk);
    for _ in 0..matrix::rounds(1, 2) {
        carry_out(&walk, &set_up);
        carry_out(&walk, &there);
        assert_eq!(walk.may_write(), [false, true]);
        carry_out(&walk, &back);
        assert_eq!(walk.may_write(), [true, false]);
        carry_out(&walk, &pause);
        assert_eq!(walk.may_write(), [true, false]);
    }
    walk.invocation("flare", &["prepare", "bench1", "--yes"])
        .run()
        .ok();
    carry_out(&walk, &there);
    let acknowledged = writers.stop();
    assert!(walk.history(&walk.new) >= acknowledged);
    let last = "SELECT last_value FROM orders_seq";
    assert_eq!(walk.new.value(crate::walk::DB, last), "4711");
    for _ in 0..2 {
        carry_out(&walk, &end);
    }
    assert_eq!(walk.may_write(), [false, true]);
    for server in [&walk.old, &walk.new] {
        let left = "SELECT (SELECT count(*) FROM pg_replication_slots)
                         + (SELECT count(*) FROM pg_subscription)
                         + (SELECT count(*) FROM pg_namespace WHERE nspname = 'flare')";
        assert_eq!(server.value("postgres", left), "0");
    }
}

/// A part of the walk, below a heading of the third level.
fn section(title: &str) -> &'static str {
    let text = chapter("A whole migration");
    let start = text
        .find(&format!("\n### {title}\n"))
        .unwrap_or_else(|| panic!("the walk has no part {title:?}"));
    let rest = &text[start + 1..];
    match rest[4..].find("\n### ") {
        Some(end) => &rest[..end + 4],
        None => rest,
    }
}

#[test]
fn every_command_is_described_once_and_no_other() {
    let help = Invocation::new(&["--help"]).run();
    let listed: BTreeSet<&str> = help
        .ok()
        .stdout()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .take_while(|line| *line != "Options:")
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|word| help.stdout().contains(&format!("\n  {word} ")) && *word != "help")
        .collect();
    let described: Vec<&str> = chapter("The commands")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', ' ']).next())
        .collect();
    let unique: BTreeSet<&str> = described.iter().copied().collect();
    assert_eq!(
        described.len(),
        unique.len(),
        "a command stands there twice"
    );
    assert_eq!(unique, listed);
}

#[test]
fn every_flag_of_every_command_is_described() {
    for line in chapter("The commands").lines() {
        let Some(command) = line
            .strip_prefix("| `")
            .and_then(|rest| rest.split(['`', ' ']).next())
        else {
            continue;
        };
        let help = Invocation::new(&[command, "--help"]).run();
        let options = help.ok().stdout().split("Options:").last().unwrap_or("");
        let flags: Vec<&str> = options
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--")?.split(' ').next())
            .filter(|flag| !["config", "format", "dry-run"].contains(flag))
            .collect();
        for flag in flags {
            assert!(
                line.contains(&format!("--{flag}")),
                "the README does not name {command} --{flag}"
            );
        }
    }
}
