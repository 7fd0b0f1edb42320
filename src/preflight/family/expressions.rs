//! Expressions that apply evaluates with an empty search_path: of indexes, generated columns, partition keys and CHECK
//! constraints.

use crate::catalog::expressions::{self, Expression, Failing};
use crate::preflight::finding::Finding;
use crate::preflight::question::{Place, Question};
use crate::preflight::registry::{Before, Check};

pub(crate) const CHECKS: &[Check] = &[Check {
    id: "search_path",
    title: "no index, generated column, partition key or CHECK needs a search_path",
    before: Before::Subscription,
    place: Place::Database,
    asks: &[EXPRESSIONS.on_both(), FAILING.on_both()],
    judge: |view| {
        let (mut failing, mut unread) = (Vec::new(), Vec::new());
        for side in [view.publisher, view.subscriber].into_iter().flatten() {
            let known = side.rows(&EXPRESSIONS)?;
            for one in expressions::together(&known, side.rows(&FAILING)?) {
                if !failing.contains(&one) {
                    failing.push(one);
                }
            }
            for one in known.into_iter().filter(is_unread) {
                if !unread.contains(&one) {
                    unread.push(one);
                }
            }
        }
        let (late, failing): (Vec<Failing>, Vec<Failing>) =
            failing.into_iter().partition(|it| it.late);
        let found = needing_a_path(&failing).into_iter();
        Ok(found
            .chain(not_evaluated(&unread))
            .chain(in_no_time(&late))
            .collect())
    },
}];

const EXPRESSIONS: Question<Expression> =
    Question::database("expressions", expressions::EXPRESSIONS);
const FAILING: Question<Failing> = Question::database("failing expressions", expressions::FAILING)
    .by_owner_where("expressions", |row| row["own"] == true);

/// Whether neither its body could be read nor anybody evaluates it.
fn is_unread(expression: &Expression) -> bool {
    !expression.own && !expression.sql && expression.why.is_none()
}

fn not_evaluated(unread: &[Expression]) -> Option<Finding> {
    let objects = unread
        .iter()
        .map(|it| format!("{} ({}) of {:?}", it.what, it.functions, it.owner));
    (!unread.is_empty()).then(|| {
        Finding::note(
            "functions in indexes, generated columns, partition keys or CHECK constraints of other roles' tables were not evaluated, since that would run their code with more rights than they have: see that they set their search_path or name schemas",
        )
        .objects(objects)
    })
}

fn in_no_time(late: &[Failing]) -> Option<Finding> {
    let objects = late
        .iter()
        .map(|it| format!("{} ({})", it.what, it.functions));
    (!late.is_empty()).then(|| {
        Finding::warning(
            "functions in indexes, generated columns, partition keys or CHECK constraints were not evaluated, since the server was too busy: see that they set their search_path or name schemas",
        )
        .objects(objects)
        .fix("flare preflight again, when the server is less busy")
    })
}

fn needing_a_path(failing: &[Failing]) -> Vec<Finding> {
    let Some(first) = failing.first() else {
        return Vec::new();
    };
    // The first of "f(int), g(text)".
    let function = match first.functions.split_once("), ") {
        Some((function, _)) => format!("{function})"),
        None => first.functions.clone(),
    };
    vec![
        Finding::blocker("functions in indexes, generated columns, partition keys or CHECK constraints find their own names by search_path, which is empty in the copy and in apply: the first row stops it")
            .objects(failing.iter().map(|it| format!("{} ({}: {})", it.what, it.functions, it.why)))
            .fix(format!(
                "ALTER FUNCTION {function} SET search_path = ..., with the schema of what it names, on both sides"
            )),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Severity;

    #[test]
    fn the_first_function_is_in_the_statement() {
        assert!(needing_a_path(&[]).is_empty());
        let one = Failing {
            what: "index app.i".into(),
            functions: "app.f(text, integer), app.g(text)".into(),
            why: "relation \"t\" does not exist".into(),
            late: false,
        };
        let found = &needing_a_path(&[one])[0];
        let fix = found.fix.as_deref().unwrap();
        assert!(
            fix.starts_with("ALTER FUNCTION app.f(text, integer) SET"),
            "{fix}"
        );
        assert!(found.objects[0].starts_with("index app.i (app.f"));
    }

    #[test]
    fn what_a_busy_server_left_no_time_for_is_a_warning_by_name() {
        assert!(in_no_time(&[]).is_none());
        let one = Failing {
            what: "index app.i".into(),
            functions: "app.f(text)".into(),
            why: String::new(),
            late: true,
        };
        let found = in_no_time(&[one]).unwrap();
        assert_eq!(found.severity, Severity::Warning);
        assert_eq!(found.objects, ["index app.i (app.f(text))"]);
    }
}
