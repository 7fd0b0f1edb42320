//! In which order differences are mended.

use super::{Drift, Kind, Target};

/// What rests on others goes before them where it is removed, and after them where it is made.
pub(super) fn ordered(found: Vec<Drift>, target: &Target) -> Vec<Drift> {
    let mut turns: Vec<(Turn, Drift)> = found.into_iter().map(|it| (it.turn(), it)).collect();
    last_where_the_last_rest(&mut turns, target);
    turns.sort_by(|(one, _), (other, _)| one.cmp(other));
    first_what_rests(turns, target)
}

/// Before or after the changes, the kind, the name.
type Turn = (i32, i32, String);

impl Drift {
    const BEFORE: i32 = 1;
    const AFTER: i32 = 3;

    /// When it is mended. What the subscriber alone has goes before what it hangs on is changed, and after what hangs on it
    /// is: foreign keys first, types and schemas last.
    fn turn(&self) -> Turn {
        let kind = self.kind as i32;
        let is_key = |it: &String| it.starts_with("FOREIGN KEY");
        match (&self.publisher, &self.subscriber) {
            (None, Some(there)) if self.kind == Kind::Constraint && is_key(there) => {
                (0, 0, self.object.clone())
            }
            (None, Some(_)) if self.kind >= Kind::Default => {
                (Self::BEFORE, -kind, self.object.clone())
            }
            (None, Some(_)) => (Self::AFTER, -kind, self.object.clone()),
            _ => (2, kind, self.object.clone()),
        }
    }
}

/// What the subscriber alone has, and what goes last rests on, goes last too: a key that an extra table refers to.
fn last_where_the_last_rest(turns: &mut [(Turn, Drift)], target: &Target) {
    loop {
        let held = turns.iter().position(|(turn, it)| {
            let users = target.users.get(&(it.kind, it.object.clone()));
            turn.0 == Drift::BEFORE
                && users.is_some_and(|users| {
                    let mut last = turns.iter().filter(|(turn, _)| turn.0 == Drift::AFTER);
                    last.any(|(_, other)| users.iter().any(|user| other.is_described_by(user)))
                })
        });
        let Some((turn, _)) = held.map(|at| &mut turns[at]) else {
            return;
        };
        turn.0 = Drift::AFTER;
    }
}

/// Of what the subscriber alone has, what rests on another goes before that.
fn first_what_rests(turns: Vec<(Turn, Drift)>, target: &Target) -> Vec<Drift> {
    let (mut phases, mut found): (Vec<i32>, Vec<Drift>) =
        turns.into_iter().map(|(turn, it)| (turn.0, it)).unzip();
    let mut ordered: Vec<Drift> = Vec::with_capacity(found.len());
    while !found.is_empty() {
        let alike = phases.iter().take_while(|it| **it == phases[0]).count();
        let is_used = |at: usize| {
            let users = target
                .users
                .get(&(found[at].kind, found[at].object.clone()));
            users.is_some_and(|users| {
                let others = found[..alike].iter().enumerate();
                others
                    .filter(|(other, _)| *other != at)
                    .any(|(_, other)| users.iter().any(|user| other.is_described_by(user)))
            })
        };
        let is_extra = found[0].publisher.is_none();
        let free = (0..alike).find(|at| !is_extra || !is_used(*at));
        phases.remove(0);
        ordered.push(found.remove(free.unwrap_or_default()));
    }
    ordered
}
