//! `cutover.hooks`: the user's own programs, told what is going on and watched while they run.
//!
//! A hook has no shell, no standard input and a process group of its own. It is told where the application moves by its
//! environment; of the passwords flare reads from the configuration it gets none.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::config::Hooks;
use crate::error::{Failure, Result, WrapErr};
use crate::server::interrupt;
use crate::tools::{End, HookProcess};

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before anything is shut.
    BeforePause,
    /// Inside the pause, once everything has arrived: clients are pointed at the other server.
    Switch,
    /// After the other server takes writes.
    AfterSwitch,
    /// After an undo.
    OnUndo,
}

impl Moment {
    const ALL: [Moment; 4] = [
        Moment::BeforePause,
        Moment::Switch,
        Moment::AfterSwitch,
        Moment::OnUndo,
    ];

    /// Its key below `cutover.hooks`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Moment::BeforePause => "before_pause",
            Moment::Switch => "switch",
            Moment::AfterSwitch => "after_switch",
            Moment::OnUndo => "on_undo",
        }
    }

    fn of(self, hooks: &Hooks) -> Option<&[String]> {
        let argv = match self {
            Moment::BeforePause => &hooks.before_pause,
            Moment::Switch => &hooks.switch,
            Moment::AfterSwitch => &hooks.after_switch,
            Moment::OnUndo => &hooks.on_undo,
        };
        argv.as_deref()
    }
}

/// What a hook is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    pub(crate) run: Uuid,
    /// `forward` or `back`.
    pub(crate) direction: &'a str,
    pub(crate) dbname: &'a str,
    pub(crate) subname: &'a str,
    /// Host and port that clients leave.
    pub(crate) from: (&'a str, u16),
    /// Host and port that clients go to.
    pub(crate) to: (&'a str, u16),
}

impl Occasion<'_> {
    fn variables(&self) -> [(&'static str, String); 8] {
        [
            ("FLARE_RUN_ID", self.run.to_string()),
            ("FLARE_DIRECTION", self.direction.to_owned()),
            ("FLARE_DBNAME", self.dbname.to_owned()),
            ("FLARE_SUBNAME", self.subname.to_owned()),
            ("FLARE_FROM_HOST", self.from.0.to_owned()),
            ("FLARE_FROM_PORT", self.from.1.to_string()),
            ("FLARE_TO_HOST", self.to.0.to_owned()),
            ("FLARE_TO_PORT", self.to.1.to_string()),
        ]
    }
}

/// Looks, before anything is changed, whether every hook of the configuration is there and may be executed.
///
/// # Errors
/// Exit code 2, naming the key and the program.
pub(crate) fn check(hooks: &Hooks) -> Result<()> {
    let configured = Moment::ALL
        .into_iter()
        .filter_map(|moment| Some((moment, moment.of(hooks)?)));
    for (moment, argv) in configured {
        program_of(moment, argv)?;
    }
    Ok(())
}

/// Runs the hook of this moment, if there is one, and waits for its end: `cutover.hooks.timeout` at most, and not
/// beyond the deadline. A hook that is late is ended, with everything it has started.
///
/// # Errors
/// When it cannot be started, fails, or is late, with its last words.
pub(crate) fn run(
    hooks: &Hooks,
    moment: Moment,
    occasion: &Occasion<'_>,
    deadline: Option<Instant>,
) -> Result<()> {
    let Some(argv) = moment.of(hooks) else {
        return Ok(());
    };
    interrupt::check()?;
    let program = program_of(moment, argv)?;
    let what = format!(
        "run the hook cutover.hooks.{} ({})",
        moment.key(),
        program.display()
    );
    let remaining = deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let limit = remaining.map_or(hooks.timeout, |left| left.min(hooks.timeout));
    let why = if limit < hooks.timeout {
        "all that is left of the pause"
    } else {
        "cutover.hooks.timeout"
    };
    log::info!("{what}");
    let mut command = Command::new(&program);
    command
        .args(argv.get(1..).unwrap_or_default())
        .envs(occasion.variables());
    let started = HookProcess::start(&mut command, moment.key());
    let mut running = started.wrap_err_with(|| what.clone())?;
    match running.wait(limit).wrap_err_with(|| what.clone())? {
        End::Exited(status) if status.success() => Ok(()),
        End::Exited(status) => Failure::new(format!("{what}: {status}{}", running.last_words()))
            .hint(
                "mend the hook and try it by hand: it gets FLARE_* variables and no standard input",
            )
            .err(),
        End::Late => Failure::new(format!(
            "{what}: not done within {} ({why}), so it was ended{}",
            humantime::format_duration(Duration::from_millis(limit.as_millis() as u64)),
            running.last_words()
        ))
        .hint("make the hook faster, or raise cutover.hooks.timeout and cutover.max_pause")
        .err(),
        End::Interrupted => Err(interrupt::interrupted().wrap_err(what)),
    }
}

/// The program a hook starts: a path, or a name that PATH finds.
fn program_of(moment: Moment, argv: &[String]) -> Result<PathBuf> {
    let name = argv.first().map_or("", String::as_str);
    let key = moment.key();
    which::which(name).map_err(|_| {
        Failure::usage(format!(
            "find the program of cutover.hooks.{key}: {name:?} is not there, or may not be executed"
        ))
        .hint(format!(
            "write the program's path in cutover.hooks.{key}, and make it executable: chmod +x"
        ))
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{exit_of, hint_of, message_of};
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// A hook that is a script.
    fn script(body: &str) -> Vec<String> {
        ["sh", "-c", body, "sh", "an argument"]
            .map(str::to_owned)
            .to_vec()
    }

    /// How a message about it begins.
    fn blamed() -> String {
        let program = which::which("sh").unwrap();
        format!(
            "run the hook cutover.hooks.switch ({}): ",
            program.display()
        )
    }

    fn switching_by(argv: Vec<String>, timeout: Duration) -> Hooks {
        Hooks {
            switch: Some(argv),
            timeout,
            ..Hooks::default()
        }
    }

    fn switch(hooks: &Hooks, deadline: Option<Instant>) -> Result<()> {
        let occasion = Occasion {
            run: Uuid::nil(),
            direction: "forward",
            dbname: "be nch",
            subname: "bench1",
            from: ("old.example", 5432),
            to: ("new.example", 5433),
        };
        run(hooks, Moment::Switch, &occasion, deadline)
    }

    const AMPLE: Duration = Duration::from_secs(60);

    #[test]
    fn it_is_told_where_clients_go_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let argv = script(&format!(
            "exec >'{}'; echo \"$#/$1\"; env | grep ^FLARE_ | grep -v ^FLARE_TEST_ | sort; cat
             [ $$ = $(cut -d' ' -f5 /proc/$$/stat) ] && echo leads its group",
            out.display()
        ));
        switch(&switching_by(argv, AMPLE), None).unwrap();
        assert_eq!(
            fs::read_to_string(out).unwrap(),
            "1/an argument\n\
             FLARE_DBNAME=be nch\n\
             FLARE_DIRECTION=forward\n\
             FLARE_FROM_HOST=old.example\n\
             FLARE_FROM_PORT=5432\n\
             FLARE_RUN_ID=00000000-0000-0000-0000-000000000000\n\
             FLARE_SUBNAME=bench1\n\
             FLARE_TO_HOST=new.example\n\
             FLARE_TO_PORT=5433\n\
             leads its group\n"
        );
    }

    #[test]
    fn none_configured_is_fine() {
        check(&Hooks::default()).unwrap();
        switch(&Hooks::default(), Some(Instant::now())).unwrap();
    }

    #[test]
    fn a_failure_is_told_with_its_last_words() {
        let argv = script(
            "for n in 1 2 3 4 5; do echo line $n; done; echo; printf 'no such \\377 zone' >&2; exit 7",
        );
        let error = switch(&switching_by(argv, AMPLE), None).unwrap_err();
        let message = message_of(&error);
        assert!(
            message.starts_with(&format!("{}exit status: 7: ", blamed())),
            "{message}"
        );
        // The end of each of the two streams.
        assert!(message.contains("no such \u{fffd} zone"), "{message}");
        assert!(message.contains("line 5"), "{message}");
        assert!(!message.contains("line 2"), "{message}");
        assert_eq!(exit_of(&error).code(), 1);
        assert!(hint_of(&error).is_some());
    }

    #[test]
    fn a_late_one_is_ended_with_all_it_has_started() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        // The grandchild ignores SIGTERM, and holds the hook's output and the fifo open as long as it lives.
        let argv = script(&format!(
            "mkfifo '{fifo}'
             (trap '' TERM; exec 3<>'{fifo}'; echo up; while :; do sleep 100; done) &
             echo working; wait",
            fifo = fifo.display()
        ));
        let since = Instant::now();
        let limit = Duration::from_secs(2);
        let error = switch(&switching_by(argv, limit), None).unwrap_err();
        assert!(since.elapsed() < Duration::from_secs(10));
        let message = message_of(&error);
        assert!(
            message.starts_with(&format!(
                "{}not done within 2s (cutover.hooks.timeout), so it was ended: ",
                blamed()
            )),
            "{message}"
        );
        assert!(message.contains("working"), "{message}");
        assert!(message.contains("up"), "{message}");
        // A fifo that nobody reads any more cannot be opened for writing without blocking.
        let open = || {
            use std::os::unix::fs::OpenOptionsExt;
            let mut options = fs::OpenOptions::new();
            options
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&fifo)
        };
        let gone = (0..500).any(|_| {
            let gone = open().is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO));
            if !gone {
                std::thread::sleep(Duration::from_millis(10));
            }
            gone
        });
        assert!(gone, "the grandchild lives on");
    }

    #[test]
    fn the_pause_has_the_last_word_about_its_time() {
        let argv = script("exec sleep 100");
        let deadline = Instant::now() + Duration::from_millis(300);
        let error = switch(&switching_by(argv, AMPLE), Some(deadline)).unwrap_err();
        let message = message_of(&error);
        assert!(
            message.contains("(all that is left of the pause), so it was ended"),
            "{message}"
        );
    }

    #[test]
    fn what_it_leaves_running_holds_nobody_up() {
        let argv = script("sleep 30 & exit 0");
        let since = Instant::now();
        switch(&switching_by(argv, AMPLE), None).unwrap();
        assert!(since.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn one_that_is_missing_or_may_not_be_executed_is_found_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hook");
        fs::write(&path, "").unwrap();
        let may = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let hooks = switching_by(vec![path.to_str().unwrap().to_owned()], AMPLE);
        may(0o755);
        check(&hooks).unwrap();
        may(0o644);
        let error = check(&hooks).unwrap_err();
        assert_eq!(
            message_of(&error),
            format!(
                "find the program of cutover.hooks.switch: {path:?} is not there, or may not be executed"
            )
        );
        assert_eq!(exit_of(&error).code(), 2);
        let hooks = Hooks {
            on_undo: Some(vec!["flare-no-such-program".to_owned()]),
            ..Hooks::default()
        };
        let message = message_of(&check(&hooks).unwrap_err());
        assert!(message.contains("cutover.hooks.on_undo"), "{message}");
    }
}
