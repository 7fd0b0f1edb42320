//! Two servers, a directory with `flare.yml`, and the program on PATH.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::bold;
use crate::support::{Cluster, clients, flare, process, run};

pub const OLD: u32 = 13;
pub const NEW: u32 = 18;

pub struct Stage {
    pub old: Arc<Cluster>,
    pub new: Arc<Cluster>,
    dir: PathBuf,
    path: OsString,
}

/// The application: a program in the background.
pub struct Application {
    child: Child,
    log: PathBuf,
}

impl Stage {
    /// What the picture of the run is called.
    pub const PICTURE: &str = "demo.svg";

    /// Fetches and starts the servers. Passwords are the users' names, so that addresses stay readable.
    pub fn set() -> Result<Stage, String> {
        let (old, new) = std::thread::scope(|scope| {
            let old = scope.spawn(|| server(OLD));
            let new = scope.spawn(|| server(NEW));
            (old.join(), new.join())
        });
        let (Ok(old), Ok(new)) = (old, new) else {
            return Err("the servers could not be started; the reason stands above".into());
        };
        let dir = run::subdir("demo");
        let bin = dir.join("bin");
        let told = |error: std::io::Error| format!("prepare {}: {error}", dir.display());
        fs::create_dir(&bin).map_err(told)?;
        // Run from a path inside the run's directory: what is found there at the end is ended.
        let (built, own) = (flare::program(), bin.join("flare"));
        fs::hard_link(&built, &own)
            .or_else(|_| fs::copy(&built, &own).map(drop))
            .map_err(told)?;
        let rest = clients::path(NEW);
        let path = env::join_paths([bin].into_iter().chain(env::split_paths(&rest)))
            .map_err(|error| error.to_string())?;
        Ok(Stage {
            old,
            new,
            dir,
            path,
        })
    }

    pub fn write_private(&self, name: &str, text: &str) -> Result<(), String> {
        let file = self.dir.join(name);
        fs::write(&file, text)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)))
            .map_err(|error| format!("write {name}: {error}"))
    }

    /// Puts the picture where it outlives the run; its path there.
    pub fn keep_picture(&self) -> Result<String, String> {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let kept = built.parent().unwrap_or(built).join(Self::PICTURE);
        fs::copy(self.dir.join(Self::PICTURE), &kept)
            .map_err(|error| format!("keep the picture as {}: {error}", kept.display()))?;
        Ok(kept.display().to_string())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        // By its path, so that it is found and ended if this process is killed; exec, so that signals reach it.
        let own = self.dir.join("bin/flare");
        let line = match line.strip_prefix("flare ") {
            Some(arguments) => format!("{} {arguments}", own.display()),
            None => line.to_owned(),
        };
        command
            .args(["-c", &format!("exec {line}")])
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.dir)
            .env("TMPDIR", &self.dir)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        if let Some(term) = env::var_os("TERM") {
            command.env("TERM", term);
        }
        command
    }

    /// Explains a command, shows it, runs it, shows what it says; its standard output.
    pub fn run(&self, why: &str, line: &str) -> Result<String, String> {
        println!("\n{why}\n{}", bold(&format!("$ {line}")));
        let mut child = self
            .command(line)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("run {line}: {error}"))?;
        let mut said = String::new();
        for text in child.stdout.take().into_iter().flat_map(lines) {
            println!("{text}");
            said += &text;
            said.push('\n');
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        if status.success() {
            Ok(said)
        } else {
            Err(format!("{line}: {status}"))
        }
    }

    /// Starts a command that goes on in the background.
    pub fn start(&self, why: &str, line: &str) -> Result<Application, String> {
        println!("\n{why}\n{}", bold(&format!("$ {line} &")));
        let log = self.dir.join("application.log");
        let child = File::create(&log)
            .and_then(|log| {
                self.command(line)
                    .stdout(Stdio::piped())
                    .stderr(log)
                    .spawn()
            })
            .map_err(|error| format!("run {line}: {error}"))?;
        Ok(Application { child, log })
    }
}

impl Application {
    /// Ends it as Ctrl-C does; its closing report.
    pub fn end(mut self, why: &str) -> Result<String, String> {
        println!("\n{why}\n{}", bold("$ kill -INT %1"));
        process::signal(self.child.id(), libc::SIGINT);
        let said: Vec<String> = self
            .child
            .stdout
            .take()
            .into_iter()
            .flat_map(lines)
            .collect();
        let status = self.child.wait().map_err(|error| error.to_string())?;
        println!("{}", said.join("\n"));
        if status.success() {
            Ok(said.join("\n"))
        } else {
            Err(format!(
                "the application: {status}\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            ))
        }
    }
}

fn lines(stream: impl std::io::Read) -> impl Iterator<Item = String> {
    BufReader::new(stream).lines().map_while(Result::ok)
}

fn server(version: u32) -> Arc<Cluster> {
    let server = Cluster::private(version, &[]);
    server.sql("postgres", "ALTER ROLE postgres PASSWORD 'postgres'");
    server
}
