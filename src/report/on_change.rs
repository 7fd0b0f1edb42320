//! Runs a command when the status of something has changed since the last run, which a file remembers.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::textfile;
use crate::error::{Advise, Failure, Result, WrapErr};

/// A command that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(30);

/// What is remembered: the status of each, and the worst.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statuses {
    pub(crate) status: String,
    pub(crate) subscriptions: BTreeMap<String, String>,
}

/// What the file remembers; none where there is none, or it cannot be read as one: that only runs the command once more.
pub(crate) fn remembered(path: &Path) -> Option<Statuses> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Whether anybody is to be told. Without memory only what is not well is news.
pub(crate) fn is_news(before: Option<&Statuses>, now: &Statuses) -> bool {
    match before {
        Some(before) => before != now,
        None => now.status != "ok",
    }
}

/// Runs the command by `sh`, with this text on its standard input and both statuses in its environment; when it has
/// ended well, the file remembers. Else the next run tries again.
pub(crate) fn tell(
    command: &str,
    path: &Path,
    before: Option<&Statuses>,
    now: &Statuses,
    text: &str,
) -> Result<()> {
    run(command, before, now, text)
        .wrap_err_with(|| format!("run --on-change {command:?}"))
        .hint(|| "it is run again with the next flare lag".into())?;
    remember(path, now)
}

pub(crate) fn remember(path: &Path, now: &Statuses) -> Result<()> {
    let text = serde_json::to_string(now).wrap_err("write the statuses as JSON")?;
    textfile::write(path, &format!("{text}\n"))
}

fn run(command: &str, before: Option<&Statuses>, now: &Statuses, text: &str) -> Result<()> {
    let was = before.map_or("unknown", |it| it.status.as_str());
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("FLARE_STATUS", &now.status)
        .env("FLARE_STATUS_BEFORE", was)
        .stdin(Stdio::piped())
        // Standard output is lag's own.
        .stdout(std::io::stderr())
        .spawn()
        .wrap_err("start sh")?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = text.to_owned();
        // A command that reads nothing ends all the same.
        std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    }
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().wrap_err("wait for it")? {
            return if status.success() {
                Ok(())
            } else {
                Failure::new(format!("it ended with {status}")).err()
            };
        }
        if begun.elapsed() > LIMIT {
            child.kill().wrap_err("end it")?;
            child.wait().wrap_err("wait for it")?;
            return Failure::new(format!("it took longer than {} s", LIMIT.as_secs())).err();
        }
        crate::server::interrupt::sleep(Duration::from_millis(10))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(status: &str) -> Statuses {
        Statuses {
            status: status.into(),
            subscriptions: BTreeMap::from([("sub".into(), status.into())]),
        }
    }

    #[test]
    fn only_a_change_is_news_and_a_lost_memory_does_no_harm() {
        let (ok, bad) = (statuses("ok"), statuses("critical"));
        assert!(!is_news(Some(&ok), &ok) && is_news(Some(&ok), &bad) && is_news(Some(&bad), &ok));
        assert!(!is_news(None, &ok) && is_news(None, &bad));
    }

    #[test]
    fn it_hears_the_text_and_is_told_again_when_it_fails() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (heard, state) = (path("heard"), path("state"));
        let command = format!(
            "echo $FLARE_STATUS_BEFORE $FLARE_STATUS > {0}; cat >> {0}",
            heard.display()
        );
        let bad = statuses("critical");
        assert!(tell("exit 3", &state, None, &bad, "").is_err());
        assert_eq!(remembered(&state), None);
        tell(&command, &state, None, &bad, "{}").unwrap();
        assert_eq!(fs::read_to_string(heard).unwrap(), "unknown critical\n{}");
        assert_eq!(remembered(&state), Some(bad));
        fs::write(&state, "half of it").unwrap();
        assert_eq!(remembered(&state), None);
    }
}
