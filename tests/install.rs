//! `make install`, `make uninstall` and `make image`, as a packager runs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::flare::{Invocation, program};
use crate::support::output::Output;
use crate::support::run;

fn make(args: &[&str]) -> Output {
    let path = std::env::var_os("PATH").expect("PATH");
    Invocation::of("make", args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path)
        .run()
}

/// `target` of the Makefile with the program under test, below a directory of the test.
fn make_into(target: &str, destdir: &Path) -> Output {
    make(&[
        "--silent",
        target,
        "PREFIX=/usr",
        &format!("BINARY={}", program().display()),
        &format!("DESTDIR={}", destdir.display()),
    ])
}

/// Every file below, from there on.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).expect("read a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                found.push(path.strip_prefix(dir).expect("below").to_owned())
            }
        }
    }
    found.sort();
    found
}

#[test]
fn everything_goes_where_it_is_looked_for_and_away_again() {
    let destdir = run::subdir("install");
    let man = destdir.join("usr/share/man/man1");
    fs::create_dir_all(&man).expect("make man1");
    fs::write(man.join("flare-of-others.1"), "").expect("a page of another program");
    make_into("install", &destdir).ok();

    let mode = |file: &str| {
        let found = fs::metadata(destdir.join(file));
        found
            .unwrap_or_else(|error| panic!("{file}: {error}"))
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("usr/bin/flare"), 0o755);
    for (file, holds) in [
        ("usr/share/bash-completion/completions/flare", "complete -F"),
        ("usr/share/zsh/site-functions/_flare", "#compdef flare"),
        (
            "usr/share/fish/vendor_completions.d/flare.fish",
            "complete -c flare",
        ),
        ("usr/share/man/man1/flare.1", ".TH flare 1"),
        (
            "usr/share/man/man1/flare-pause_write.1",
            ".TH flare-pause_write 1",
        ),
    ] {
        assert_eq!(mode(file), 0o644, "{file}");
        let text = fs::read_to_string(destdir.join(file)).expect("read it");
        assert!(text.contains(holds), "{file} lacks {holds:?}");
    }
    let help = Invocation::new(&["--help"]).run();
    let commands = help.ok().stdout().lines().filter_map(|line| {
        let word = line.strip_prefix("  ")?.split_whitespace().next()?;
        let is_command = line.as_bytes().get(2).is_some_and(u8::is_ascii_lowercase);
        is_command.then(|| word.to_owned())
    });
    for command in commands.filter(|command| command != "help") {
        assert_eq!(
            mode(&format!("usr/share/man/man1/flare-{command}.1")),
            0o644
        );
    }

    // Again, over what is there.
    make_into("install", &destdir).ok();
    make_into("uninstall", &destdir).ok();
    assert_eq!(
        files(&destdir),
        [Path::new("usr/share/man/man1/flare-of-others.1")]
    );
    make_into("uninstall", &destdir).ok();
}

#[test]
fn an_image_needs_an_engine_that_answers() {
    make(&["--silent", "image", "ENGINES=no-engine false"])
        .code(2)
        .says("no container engine answers here (tried: no-engine false)");
}

/// An engine that keeps what it was given, in place of one that builds.
#[test]
fn an_image_is_built_of_the_sources_alone() {
    let dir = run::subdir("engine");
    let engine = dir.join("engine");
    let script = format!(
        "#!/bin/sh\ncase $1 in build)\n  echo \"$@\"\n  for context; do :; done\n  cp -R \"$context\" {}/context;;\nesac\n",
        dir.display()
    );
    fs::write(&engine, script).expect("write the engine");
    fs::set_permissions(&engine, fs::Permissions::from_mode(0o755)).expect("make it a program");
    let engines = format!("ENGINES=no-engine {}", engine.display());
    make(&["--silent", "image", "IMAGE=flare:test", &engines])
        .ok()
        .prints("build -t flare:test -f ");
    let context = dir.join("context");
    let mut entries: Vec<_> = fs::read_dir(&context)
        .expect("the context")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    entries.sort();
    assert_eq!(
        entries,
        ["Cargo.lock", "Cargo.toml", "Makefile", "fixtures", "src"]
    );
    assert!(context.join("fixtures/Containerfile").is_file());
    // What the recipe asks of make, there.
    let there = context.to_str().expect("UTF-8");
    make(&["--dry-run", "-C", there, "static"]).ok();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = std::process::Command::new(cargo);
    metadata.args(["metadata", "--no-deps", "--format-version", "1"]);
    let output = metadata.current_dir(&context).output().expect("run cargo");
    assert!(output.status.success(), "{output:?}");
}
