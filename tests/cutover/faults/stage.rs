//! Two servers, a network to each, an application on one of them; and the play.

use std::time::Duration;

use crate::clients::{self, writer::Writer};
use crate::support::application::{Application, Side, create_tables};
use crate::support::flare::Running;
use crate::support::output::Output;
use crate::support::proxy::Proxy;
use crate::support::{Cluster, Pair, process, wait};

use super::super::fixture::{
    assert_fenced, assert_first_line, assert_settled, at_failpoint, await_streaming_from,
    command_to, go_on, is_open, open_sides, ready_with, sessions_of_flare, switch_to,
};
use super::super::state::{Before, privileges};
use super::fault::{Action, Fault};

const MAX_PAUSE: &str = "3s";
const PAUSE_IS_OVER_AFTER: Duration = Duration::from_secs(5);
/// max_pause, and what a busy machine adds.
const BY_ITSELF_WITHIN: Duration = Duration::from_secs(10);
const GIVES_UP_WITHIN: Duration = Duration::from_secs(60);
const FINISHED_WITHIN: Duration = Duration::from_secs(60);

pub struct Stage {
    pair: Pair,
    /// flare's ways to the publisher and to the subscriber; the servers reach each other directly.
    proxies: [Proxy; 2],
    /// Where the application is.
    at: Side,
    /// Clients in processes of their own, which stay from one play to the next.
    clients: Vec<Writer>,
    /// How often they have moved.
    moves: usize,
}

impl Stage {
    pub fn new(old: u32, new: u32) -> Self {
        Self::with_clients(old, new, |_| Vec::new())
    }

    pub fn with_clients(old: u32, new: u32, start: impl FnOnce(&Pair) -> Vec<Writer>) -> Self {
        let pair = Pair::alone(old, new).with_accounts(10);
        let pair = ready_with(pair, |pair, server| {
            create_tables(pair, server);
            clients::create_table(pair, server);
        });
        for server in [pair.publisher(), pair.subscriber()] {
            commits_late_but_for_the_application(&pair, server);
        }
        pair.configure(|config| {
            config["cutover"]["hooks"]["switch"] = vec!["/bin/true".to_owned()].into();
        });
        let proxies = [Side::Publisher, Side::Subscriber].map(|side| Proxy::between(&pair, side));
        let clients = start(&pair);
        Self {
            pair,
            proxies,
            at: Side::Publisher,
            clients,
            moves: 0,
        }
    }

    pub fn direction(&self) -> &'static str {
        command_to(self.at.other())
    }

    /// One run with one fault at a step, what comes of it, and the next run, which has to bring it to its end.
    pub fn play(&mut self, step: &str, fault: Fault) {
        self.play_run(fault, |stage| {
            let ended = stage.run_into(step, fault);
            let outcome = ended.as_ref().map(outcome_of).unwrap_or_default();
            stage.assert_by_itself(step, fault, &outcome);
            ended
        });
    }

    /// There and back without a fault: how long the slower of the two takes.
    pub fn undisturbed(&mut self) -> Duration {
        let both = [(); 2].map(|()| {
            self.at = self.at.other();
            self.moves += 1;
            let run = self.pair.flare(&switch_to(&self.pair, self.at, &[]));
            run.ok();
            self.clients_write_on(self.at, "undisturbed");
            run.took()
        });
        both.into_iter().max().unwrap_or_default()
    }

    /// The same with the fault at any moment.
    pub fn play_after(&mut self, moment: Duration, fault: Fault) {
        self.play_run(fault, |stage| {
            let ended = stage.run_for(moment, fault);
            stage.thaw(fault);
            wait::until(BY_ITSELF_WITHIN, || !open_sides(&stage.pair).is_empty());
            ended
        });
    }

    fn play_run(&mut self, fault: Fault, run: impl FnOnce(&Self) -> Option<Output>) {
        let (from, to) = (self.at, self.at.other());
        let pair = &self.pair;
        let application = Application::start(pair);
        application.await_writes_on(from, 30);
        self.clients_write_on(from, "before the run");
        let before = Before::of(pair, from);

        let ended = run(self);
        let outcome = ended.as_ref().map(outcome_of).unwrap_or_default();
        self.heal(fault);
        let told = ended.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("{told}");
        self.assert_said_by_status(&told);
        if let [side] = open_sides(pair)[..] {
            self.clients_write_on(side, "after the fault");
        }
        match outcome.as_str() {
            "undone" => {
                application.await_writes_on(from, 10);
                await_streaming_from(pair, from);
                assert_eq!(Before::of(pair, from), before, "{told}");
            }
            "open" => assert_eq!(open_sides(pair), [to], "{told}"),
            _ if is_open(pair, from) => {
                application.await_writes_on(from, 10);
                let db = pair.db();
                assert_eq!(privileges(from.of(pair), db), before.privileges(), "{told}");
            }
            _ => {}
        }

        self.finish(fault);
        application.await_writes_on(to, 30);
        self.clients_write_on(to, "after the switch");
        self.moves += 1;
        self.assert_clients_on_one_side_at_a_time(to);
        assert_settled(pair, to);
        assert_fenced(pair, from);
        let written = application.stop();
        written
            .verify(to.of(pair))
            .verify_arrives(from.of(pair))
            .assert_sides(&[from, to])
            .assert_never_refused();
        for side in [from, to] {
            wait::for_("flare's sessions to end", BY_ITSELF_WITHIN, || {
                sessions_of_flare(side.of(pair)) == "0"
            });
        }
        self.at = to;
    }

    /// Ends the clients; every row that was acknowledged is on both servers.
    pub fn end(self) {
        for client in self.clients {
            client.lost_nothing(&self.pair, self.at.of(&self.pair));
        }
    }

    fn clients_write_on(&self, side: Side, stage: &str) {
        let seen: Vec<usize> = self.clients.iter().map(Writer::seen).collect();
        for (client, seen) in self.clients.iter().zip(seen) {
            client.await_on(side.of(&self.pair), seen, stage);
        }
    }

    /// Each row has the server that made it, and when: all of one come before all of the other.
    fn assert_clients_on_one_side_at_a_time(&self, to: Side) {
        if self.clients.is_empty() {
            return;
        }
        let epochs = to.of(&self.pair).rows(self.pair.db(), clients::EPOCHS);
        assert_eq!(epochs.len(), 1 + self.moves, "{epochs:#?}");
    }

    /// The run's end, where it had one of its own.
    fn run_into(&self, step: &str, fault: Fault) -> Option<Output> {
        let to = self.at.other();
        let (pair, action) = (&self.pair, fault.action());
        let failpoint = format!("{step}={}", action.as_str());
        let run = at_failpoint(pair, to, &failpoint, &["--max-pause", MAX_PAUSE])
            .limit(GIVES_UP_WITHIN)
            .spawn();
        run.until_stderr(&format!("failpoint reached: {step}"));
        if action == Action::Stop {
            wait::for_("flare to stop", BY_ITSELF_WITHIN, || {
                process::is_stopped(run.pid())
            });
        }
        self.strike(run, fault)
    }

    /// A run that nothing holds, until the fault.
    fn run_for(&self, moment: Duration, fault: Fault) -> Option<Output> {
        let args = ["--format", "json", "--max-pause", MAX_PAUSE];
        let run = self
            .pair
            .invocation(&switch_to(&self.pair, self.at.other(), &args))
            .limit(GIVES_UP_WITHIN)
            .spawn();
        wait::until(moment, || run.has_ended());
        if fault == Fault::FlareFrozen {
            run.signal(libc::SIGSTOP);
        }
        self.strike(run, fault)
    }

    fn strike(&self, run: Running, fault: Fault) -> Option<Output> {
        let (from, to) = (self.at, self.at.other());
        let pair = &self.pair;
        match fault {
            Fault::Fails | Fault::TooLate => {}
            Fault::Interrupted => run.signal(libc::SIGINT),
            Fault::Terminated => run.signal(libc::SIGTERM),
            Fault::FlareKilled => {
                run.kill_9();
                return None;
            }
            Fault::FlareAndGuardKilled => {
                for guard in guards_of(&run) {
                    process::signal(guard, libc::SIGKILL);
                }
                run.kill_9();
                return None;
            }
            Fault::FlareFrozen => std::thread::sleep(PAUSE_IS_OVER_AFTER),
            Fault::FromCrashed => from.of(pair).kill_9(),
            Fault::ToCrashed => to.of(pair).kill_9(),
            Fault::FromFrozen => from.of(pair).freeze(),
            Fault::ToFrozen => to.of(pair).freeze(),
            Fault::FromSilent => self.way_to(from).freeze(),
            Fault::ToSilent => self.way_to(to).freeze(),
            Fault::FromUnheard => self.way_to(from).lose_answers(),
            Fault::ToUnheard => self.way_to(to).lose_answers(),
            Fault::FromCutOff => self.way_to(from).cut(),
            Fault::ToCutOff => self.way_to(to).cut(),
            Fault::WalsenderEnded => end(
                pair,
                from,
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                  WHERE database = current_database() AND active",
            ),
            Fault::ApplyEnded => end(
                pair,
                to,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_subscription
                  WHERE relid IS NULL AND pid IS NOT NULL",
            ),
        }
        // Nothing for one that was not stopped.
        go_on(&run);
        match fault {
            Fault::FromCrashed => from.of(pair).start(),
            Fault::ToCrashed => to.of(pair).start(),
            _ => {}
        }
        Some(run.wait())
    }

    /// Frozen servers cannot even be asked: they are thawed first. Everything else has to come right as it is.
    fn assert_by_itself(&self, step: &str, fault: Fault, outcome: &str) {
        let from = self.at;
        self.thaw(fault);
        if fault.is_certainly_undone_at(step) {
            assert_eq!(outcome, "undone");
        }
        if outcome == "switched" {
            assert!(fault.may_be_overcome_at(step), "it cannot have switched");
            return;
        }
        let opened = wait::until(BY_ITSELF_WITHIN, || open_sides(&self.pair) == [from]);
        if fault.is_undone_by_itself_at(step) {
            assert!(opened, "the {} is still shut", from.as_str());
        }
    }

    fn thaw(&self, fault: Fault) {
        match fault {
            Fault::FromFrozen => self.at.of(&self.pair).thaw(),
            Fault::ToFrozen => self.at.other().of(&self.pair).thaw(),
            _ => {}
        }
    }

    fn heal(&self, fault: Fault) {
        for proxy in &self.proxies {
            proxy.thaw();
            proxy.mend();
        }
        // Those who write have statistics: a crash forgets when they were taken.
        if matches!(fault, Fault::FromCrashed | Fault::ToCrashed) {
            for side in [self.at, self.at.other()] {
                side.of(&self.pair).sql(self.pair.db(), "ANALYZE");
            }
        }
    }

    /// `status` knows where the application can write.
    fn assert_said_by_status(&self, told: &str) {
        let status = self.pair.flare(&["status"]);
        println!("{status}");
        status.ok();
        match open_sides(&self.pair)[..] {
            [side] => assert_first_line(&status, side),
            _ => {
                let first = status.stdout().lines().next().unwrap_or_default();
                assert!(
                    first.contains("Nobody"),
                    "the first line does not say that nobody can write\n{status}\n{told}"
                );
            }
        }
    }

    /// The same command again, which may have to wait until replication runs.
    fn finish(&self, fault: Fault) {
        let args = switch_to(&self.pair, self.at.other(), &["--format", "json"]);
        let mut said = String::new();
        let finished = wait::until(FINISHED_WITHIN, || {
            let run = self.pair.flare(&args);
            let outcome = outcome_of(&run);
            said = run.to_string();
            run.status().success() && ["switched", "already"].contains(&outcome.as_str())
        });
        assert!(finished, "{fault:?} is not got over:\n{said}");
    }

    fn way_to(&self, side: Side) -> &Proxy {
        &self.proxies[side as usize]
    }
}

/// A crash loses what was committed last, in these databases: nobody but the application waits for the disk, and flare,
/// if it asks for that itself.
fn commits_late_but_for_the_application(pair: &Pair, server: &Cluster) {
    let (db, app) = (pair.db(), &pair.names().app);
    server.sql(
        "postgres",
        &format!(
            "ALTER DATABASE postgres SET synchronous_commit = off;
             ALTER DATABASE {db} SET synchronous_commit = off;
             ALTER ROLE {app} IN DATABASE {db} SET synchronous_commit = on"
        ),
    );
}

fn outcome_of(run: &Output) -> String {
    let report = run.json();
    report["outcome"].as_str().unwrap_or_default().to_owned()
}

/// The guard process of a run, if it has one at this step.
fn guards_of(run: &Running) -> Vec<u32> {
    process::children_of(run.pid())
}

fn end(pair: &Pair, side: Side, who: &str) {
    side.of(pair).sql(pair.db(), who);
}
