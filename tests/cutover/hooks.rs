//! Programs that are run on the way.

use std::fs;

use crate::support::Pair;
use crate::support::application::{Application, Side};

use super::fixture::{
    assert_moved, assert_settled, assert_undone, await_streaming_from, open_sides, ready, switch_to,
};
use super::state::Before;

const THERE: Side = Side::Subscriber;
const BACK: Side = Side::Publisher;

/// A hook that writes its name, and whether the application can write where, into the pair's directory, and ends so.
fn hook(pair: &Pair, name: &str, then: &str) -> Vec<String> {
    let log = pair.dir().join("hooks").display().to_string();
    let script = format!(
        "echo {name} $FLARE_DIRECTION $FLARE_DBNAME $FLARE_SUBNAME \
         $FLARE_FROM_HOST:$FLARE_FROM_PORT $FLARE_TO_HOST:$FLARE_TO_PORT $FLARE_RUN_ID >> '{log}'; {then}"
    );
    ["/bin/sh", "-c", &script].map(str::to_owned).to_vec()
}

/// Names these hooks in the pair's configuration; each may take so long.
fn configure(pair: &Pair, timeout: &str, hooks: &[(&str, &str)]) {
    let _ = fs::remove_file(pair.dir().join("hooks"));
    pair.configure(|config| {
        let mut all = serde_yaml::Mapping::new();
        all.insert("timeout".into(), timeout.into());
        for (name, then) in hooks {
            let argv = hook(pair, name, then);
            all.insert((*name).into(), argv.into());
        }
        config["cutover"]["hooks"] = all.into();
    });
}

/// What ran, without the run's id.
fn ran(pair: &Pair) -> Vec<String> {
    let log = fs::read_to_string(pair.dir().join("hooks")).unwrap_or_default();
    log.lines()
        .map(|line| line.rsplit_once(' ').expect("words").0.to_owned())
        .collect()
}

#[test]
fn hooks_run_in_their_places_and_know_the_run() {
    let pair = ready(Pair::new(14, 18).with_accounts(10));
    let ok = ["before_pause", "switch", "after_switch", "on_undo"].map(|name| (name, "true"));
    // A busy machine may take more than a second to start a shell.
    let ample = "30s";
    for (to, direction) in [(THERE, "forward"), (BACK, "back")] {
        configure(&pair, ample, &ok);
        let run = pair.flare(&switch_to(&pair, to, &["--format", "json"]));
        let report = run.ok().json();
        let steps = report["steps"].to_string();
        assert!(steps.contains("route"), "{run}");
        let at = |side: Side| {
            let server = side.of(&pair);
            format!("{}:{}", server.host(), server.port())
        };
        let expected = ["before_pause", "switch", "after_switch"].map(|name| {
            format!(
                "{name} {direction} {} {} {} {}",
                pair.db(),
                pair.subname(),
                at(to.other()),
                at(to)
            )
        });
        assert_eq!(ran(&pair), expected, "{run}");
        let log = fs::read_to_string(pair.dir().join("hooks")).expect("the hooks' log");
        let run_id = report["run_id"].as_str().expect("run_id");
        assert_eq!(log.matches(run_id).count(), 3, "{log}");
    }
}

#[test]
#[ignore = "make soak"]
fn a_switch_hook_that_fails_or_hangs_undoes_the_pause() {
    let pair = ready(Pair::new(13, 17).with_accounts(10));
    let application = Application::start(&pair);
    application.await_writes_on(BACK, 50);
    let before = Before::of(&pair, BACK);
    for failure in ["exit 3", "sleep 60"] {
        configure(&pair, "1s", &[("switch", failure), ("on_undo", "true")]);
        let run = pair.flare(&switch_to(&pair, THERE, &["--format", "json"]));
        run.code(1);
        assert_undone(&run, "switch", BACK);
        let names: Vec<String> = ran(&pair)
            .iter()
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names, ["switch", "on_undo"], "{run}");
        application.await_writes_on(BACK, 20);
        await_streaming_from(&pair, BACK);
        assert_eq!(Before::of(&pair, BACK), before, "{failure}");
    }
    // One that fails before anything is shut stops the command there.
    configure(&pair, "1s", &[("before_pause", "exit 3")]);
    pair.flare(&switch_to(&pair, THERE, &[])).code(1);
    assert_eq!(Before::of(&pair, BACK), before);
    // What fails afterwards is told, and changes nothing.
    configure(
        &pair,
        "1s",
        &[("switch", "true"), ("after_switch", "exit 3")],
    );
    let run = pair.flare(&switch_to(&pair, THERE, &["--format", "json"]));
    let report = run.json();
    assert_eq!(report["outcome"], "switched", "{run}");
    assert!(
        report["warnings"].to_string().contains("after_switch"),
        "{run}"
    );
    application.await_writes_on(THERE, 50);
    assert_eq!(open_sides(&pair), [THERE]);
    assert_settled(&pair, THERE);
    assert_moved(application, &pair, &[BACK, THERE]);
}

#[test]
fn a_hook_that_cannot_be_run_is_found_before_the_pause() {
    let pair = ready(Pair::new(16, 18).with_accounts(10));
    let before = Before::of(&pair, BACK);
    pair.configure(|config| {
        config["cutover"]["hooks"]["switch"] = vec!["/no/such/program".to_owned()].into();
    });
    let run = pair.flare(&switch_to(&pair, THERE, &[]));
    assert_ne!(run.status().code(), Some(0), "{run}");
    run.says("/no/such/program");
    assert_eq!(Before::of(&pair, BACK), before);
}
