//! What a program that uses the library compiles.

use std::process::Command;

/// Crates that only a terminal needs, and those that they bring.
const TERMINAL: [&str; 15] = [
    "anstream",
    "clap",
    "clap_builder",
    "clap_complete",
    "clap_derive",
    "clap_mangen",
    "comfy-table",
    "console",
    "crossterm",
    "env_logger",
    "indicatif",
    "ratatui",
    "roff",
    "terminal_size",
    "unicode-width",
];

#[test]
fn without_the_feature_cli_no_terminal_crate_is_compiled() {
    let packages = |features: &[&str]| {
        let mut tree = Command::new(env!("CARGO"));
        tree.args([
            "tree",
            "--locked",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ]);
        let tree = tree
            .args(features)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .expect("cargo tree");
        assert!(
            tree.status.success(),
            "{}",
            String::from_utf8_lossy(&tree.stderr)
        );
        let text = String::from_utf8(tree.stdout).expect("UTF-8");
        let names = text.lines().filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let is_there = |packages: &[String], name: &str| packages.iter().any(|it| it == name);
    let (program, library) = (packages(&[]), packages(&["--no-default-features"]));
    assert!(is_there(&library, "postgres"), "{library:?}");
    for name in TERMINAL {
        assert!(
            is_there(&program, name),
            "{name} is not what the program needs any more"
        );
        assert!(!is_there(&library, name), "the library compiles {name}");
    }
}
