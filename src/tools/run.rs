//! Runs one program against one verified server, watched: an interrupt or a server that went silent ends it.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use crossbeam_channel::{bounded, select};

use super::installation::Program;
use super::scratch::{rewind, share, unlinked};
use crate::config::RootCert;
use crate::error::{Failure, Result, WrapErr};
use crate::server::{Endpoint, Login, Server, interrupt, session_options};
use crate::value::Secret;

/// How often the server is asked for a sign of life while a program works on it.
const SIGN_OF_LIFE_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// A program about to be run on a server.
pub(crate) struct Invocation<'a> {
    program: &'a Program,
    server: &'a Server,
    endpoint: Endpoint,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    /// What keeps the session out of the sight of event triggers, where the account may.
    unseen: Option<&'static str>,
    password: Secret,
}

impl Program {
    /// This program, sent to the verified address of a server as one of its accounts.
    pub(crate) fn on<'a>(
        &'a self,
        server: &'a Server,
        login: Login,
        dbname: &str,
    ) -> Result<Invocation<'a>> {
        let credentials = server.credentials(login)?;
        let password = credentials.password()?;
        let invocation = Invocation {
            program: self,
            server,
            endpoint: server.target().with(credentials.user(), dbname).endpoint,
            args: Vec::new(),
            env: environment(server, credentials.user(), dbname),
            unseen: server.unseen_as(login),
            password,
        };
        Ok(invocation.options(&format!("{} -c lock_timeout=0", session_options())))
    }
}

/// Everything libpq would otherwise take from somewhere else (manual: "Environment Variables").
fn environment(server: &Server, user: &str, dbname: &str) -> Vec<(&'static str, OsString)> {
    let target = server.target();
    let tls = &target.tls;
    let mut env: Vec<(&'static str, OsString)> = vec![
        ("PGHOST", target.endpoint.host.clone().into()),
        ("PGPORT", target.endpoint.port.to_string().into()),
        ("PGUSER", user.into()),
        ("PGDATABASE", dbname.into()),
        ("PGAPPNAME", target.application_name.clone().into()),
        ("PGCLIENTENCODING", "UTF8".into()),
        (
            "PGCONNECT_TIMEOUT",
            target.timeout.as_secs().max(2).to_string().into(),
        ),
        ("PGSSLMODE", tls.sslmode.as_str().into()),
        // Messages are read by flare; files in the user's home (root.crt, .pgpass, .psqlrc) are not.
        ("LC_ALL", "C".into()),
        ("HOME", "/nonexistent".into()),
    ];
    if let Some(address) = target.hostaddr() {
        env.push(("PGHOSTADDR", address.to_string().into()));
    }
    let files: [(&'static str, Option<&Path>); 3] = [
        (
            "PGSSLROOTCERT",
            tls.sslrootcert.as_ref().map(|root| match root {
                RootCert::File(path) => path.as_path(),
                RootCert::System => Path::new("system"),
            }),
        ),
        ("PGSSLCERT", tls.sslcert.as_deref()),
        ("PGSSLKEY", tls.sslkey.as_deref()),
    ];
    for (name, path) in files {
        if let Some(path) = path {
            env.push((name, path.into()));
        }
    }
    for kept in ["PATH", "LD_LIBRARY_PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(kept) {
            env.push((kept, value));
        }
    }
    env
}

impl Invocation<'_> {
    /// Adds arguments. No secret may be among them.
    pub(crate) fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets what the program finds in its environment. No secret may be in it.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// Sets the settings that its session begins with, beside those that keep the user's event triggers from firing.
    pub(crate) fn options(self, settings: &str) -> Self {
        let all = match self.unseen {
            Some(unseen) => format!("{settings} -c {unseen}"),
            None => settings.to_owned(),
        };
        self.env("PGOPTIONS", all)
    }

    /// Starts it through `launcher`, which is given the program and its arguments, and leaves it to itself: it goes on when
    /// this process dies. Its standard output comes over a pipe, its standard error goes to the file.
    pub(crate) fn leave(self, launcher: &Path, args: &[&str], stderr: File) -> Result<Child> {
        Command::new(launcher)
            .args(args)
            .arg(&self.program.path)
            .args(&self.args)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (*name, value)))
            .env("PGPASSWORD", self.password.reveal())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .wrap_err_with(|| format!("run {} through {}", self.program, launcher.display()))
    }

    /// What a program wrote to its standard error, without its password.
    pub(crate) fn redacted(server: &Server, login: Login, words: &str) -> Result<String> {
        let password = server.credentials(login)?.password()?;
        Ok(last_lines(&password.redact(words)))
    }

    /// Runs it; its standard output goes to a file without a name, positioned at its start.
    pub(crate) fn dump(self) -> Result<File> {
        self.printed(|expression| expression.stdin_null())
    }

    /// The same, with a file as its standard input.
    pub(crate) fn convert(self, mut input: File) -> Result<File> {
        rewind(&mut input)?;
        self.printed(|expression| expression.stdin_file(input))
    }

    fn printed(self, with: impl FnOnce(duct::Expression) -> duct::Expression) -> Result<File> {
        let mut output = unlinked()?;
        let into = share(&output)?;
        let (status, stderr) = self.watch(|expression| with(expression).stdout_file(into))?;
        self.check(status, &stderr)?;
        rewind(&mut output)?;
        Ok(output)
    }

    /// Runs it with a file as its standard input; what it wrote on standard error, and how it ended.
    pub(crate) fn feed(&self, mut input: File) -> Result<(ExitStatus, String)> {
        rewind(&mut input)?;
        self.watch(|expression| expression.stdin_file(input).stdout_null())
    }

    /// The error for a program that did not end well.
    pub(crate) fn check(&self, status: ExitStatus, stderr: &str) -> Result<()> {
        if status.success() {
            Ok(())
        } else {
            Failure::new(format!(
                "run {} on the {}: {}: {}",
                self.program,
                self.endpoint,
                ended(status),
                last_lines(stderr)
            ))
            .err()
        }
    }

    fn watch(
        &self,
        with: impl FnOnce(duct::Expression) -> duct::Expression,
    ) -> Result<(ExitStatus, String)> {
        interrupt::check()?;
        let mut stderr = unlinked()?;
        let what = || format!("run {}", self.program);
        let mut env: Vec<(OsString, OsString)> = self
            .env
            .iter()
            .map(|(name, value)| ((*name).into(), value.clone()))
            .collect();
        env.push(("PGPASSWORD".into(), self.password.reveal().into()));
        let expression = duct::cmd(&self.program.path, &self.args)
            .full_env(env)
            .stderr_file(share(&stderr)?)
            .unchecked();
        let handle = Arc::new(with(expression).start().wrap_err_with(what)?);
        let (reply, answer) = bounded(1);
        let waiting = handle.clone();
        std::thread::spawn(move || {
            let ended = waiting.wait().map(|output| output.status);
            reply.send(ended).unwrap_or_default();
        });
        let status = loop {
            select! {
                recv(answer) -> ended => {
                    break ended.wrap_err_with(what)?.wrap_err_with(what)?;
                }
                recv(interrupt::channel()) -> _ => {
                    handle.kill().wrap_err_with(what)?;
                    return Err(interrupt::interrupted());
                }
                default(SIGN_OF_LIFE_EVERY) => {
                    if let Err(silent) = self.server.sign_of_life() {
                        handle.kill().wrap_err_with(what)?;
                        return Err(silent.wrap_err(what()));
                    }
                }
            }
        };
        rewind(&mut stderr)?;
        let mut words = Vec::new();
        stderr.read_to_end(&mut words).wrap_err_with(what)?;
        let words = self.password.redact(&String::from_utf8_lossy(&words));
        Ok((status, words))
    }
}

fn ended(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("ended by signal {signal}"),
        _ => "ended".to_owned(),
    }
}

/// The end of what a program said: enough to know why, in one line.
fn last_lines(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.len().saturating_sub(4);
    lines[from..].join(" | ")
}
