//! Client libraries of languages that have no package manager of their own that every machine reaches: those that are
//! installed here. Debian has them as ruby-pg, php-cli with php-pgsql, golang-go with golang-github-jackc-pgx-v4-dev, and
//! default-jdk-headless with libpostgresql-jdbc-java.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::writer::{Writer, stay_through_a_restart_and_move_there_and_back};
use super::{languages, orders, ready, url};
use crate::support::Pair;
use crate::support::pair::Passwords;

const JDBC: &str = "/usr/share/java/postgresql.jar";
const GO_LIBRARIES: &str = "/usr/share/gocode";

#[derive(Clone, Copy, Debug)]
enum Language {
    Ruby,
    Php,
    Go,
    Java,
}

fn script(name: &str) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/installed");
    here.join(name)
}

impl Language {
    const ALL: [Language; 4] = [Language::Ruby, Language::Php, Language::Go, Language::Java];

    /// Whether a program in it could talk to a server from here.
    fn is_here(self) -> bool {
        let mut probe = match self {
            Language::Ruby => command("ruby", &["-r", "pg", "-e", ""]),
            Language::Php => command(
                "php",
                &["-r", "exit(function_exists('pg_connect') ? 0 : 1);"],
            ),
            Language::Go => command("go", &["version"]),
            Language::Java => command("javac", &["-version"]),
        };
        let library = match self {
            Language::Go => Path::new(GO_LIBRARIES).join("src/github.com/jackc/pgx"),
            Language::Java => JDBC.into(),
            Language::Ruby | Language::Php => "/".into(),
        };
        let probed = probe.stdout(Stdio::null()).stderr(Stdio::null()).status();
        probed.is_ok_and(|status| status.success()) && library.exists()
    }

    fn modes(self) -> &'static [&'static str] {
        match self {
            Language::Go => &["each", "kept", "pool"],
            _ => &["each", "kept"],
        }
    }

    fn writer(self, pair: &Pair, mode: &str, name: &str, url: &str) -> Writer {
        let mut command = match self {
            Language::Ruby => program("ruby", "writer.rb"),
            Language::Php => program("php", "writer.php"),
            Language::Go => Command::new(built_by_go()),
            Language::Java => {
                let libraries = format!("{}:{JDBC}", built_by_java().display());
                let quick = ["-Xmx64m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];
                let mut java = command("java", &quick);
                java.args(["-cp", &libraries, "Writer"]);
                java
            }
        };
        command.args([mode, name]);
        match self {
            Language::Java => {
                let (_, servers) = url.rsplit_once('@').expect("servers");
                let (servers, _) = servers.split_once('?').expect("an attribute");
                let url = format!("jdbc:postgresql://{servers}?targetServerType=primary");
                command.args([&url, &pair.names().app, Passwords::APP]);
            }
            _ => {
                command.arg(url);
            }
        }
        Writer::start(pair, name, command)
    }
}

fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args);
    command
}

fn program(interpreter: &str, name: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(script(name));
    command
}

fn built_by_go() -> PathBuf {
    let home = languages::home("go");
    std::fs::create_dir_all(&home).expect("make a directory");
    let writer = home.join("writer");
    languages::run(
        command("go", &["build", "-o"])
            .args([&writer, &script("writer.go")])
            .envs([("GO111MODULE", "off"), ("GOPATH", GO_LIBRARIES)])
            .env("GOCACHE", home.join("cache")),
    );
    writer
}

fn built_by_java() -> PathBuf {
    let home = languages::home("java");
    languages::run(
        command("javac", &["-cp", JDBC, "-d"])
            .arg(&home)
            .arg(script("Writer.java")),
    );
    home
}

/// Of every language that is installed, with either address first, that are wanted by their names.
pub fn writers(pair: &Pair, is_wanted: impl Fn(&str) -> bool) -> Vec<Writer> {
    let mut writers = Vec::new();
    for language in Language::ALL {
        if !language.is_here() {
            println!("{language:?} is not installed, or not its library: left out");
            continue;
        }
        for mode in language.modes() {
            for (order, servers) in ["old_new", "new_old"].into_iter().zip(orders(pair)) {
                let name = format!("{language:?}_{mode}_{order}");
                if is_wanted(&name) {
                    writers.push(language.writer(pair, mode, &name, &url(pair, servers, "")));
                }
            }
        }
    }
    writers
}

#[test]
#[ignore = "for the languages that are installed: make soak"]
fn clients_of_installed_languages_move_there_and_back() {
    for (old, new) in [(15, 18), (10, 16)] {
        let pair = ready(Pair::alone(old, new));
        let writers = writers(&pair, |_| true);
        stay_through_a_restart_and_move_there_and_back(&pair, writers);
    }
}
