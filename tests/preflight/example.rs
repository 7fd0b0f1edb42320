//! The run that the README shows, on the schema it is shown for.

use crate::support::Pair;

const README: &str = include_str!("../../README.md");
const SCHEMA: &str = include_str!("../../fixtures/shop.sql");

#[test]
fn the_readme_shows_a_run_as_it_is() {
    let pair = Pair::alone(14, 18).with_accounts(1);
    pair.publisher().sql(pair.db(), SCHEMA);
    let run = pair.flare(&["preflight"]);
    let said = run.code(3).stdout().replace(pair.db(), "shop");
    assert!(
        README.contains(&said),
        "the README does not show this:\n{said}\n{run}"
    );
}
