//! Which thread serves a client, and what it has sent and heard nothing of.
//!
//! A statement on a frozen server returns only when the server thaws. So a thread is not waited for: when it has heard
//! nothing for too long, another serves the client in its place, and what it had sent is of unknown outcome. Should it wake
//! up later, it finds that it was replaced, and ends.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::ledger::Entry;
use super::shared::locked;

/// What is under way for a client.
#[derive(Debug)]
pub(super) struct Assignment {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The number of the thread that serves the client.
    thread: u64,
    waiting: Option<Waiting>,
    scout: bool,
    /// Dropped when no thread serves the client any more.
    alive: Option<Sender<()>>,
}

/// What a thread waits for.
#[derive(Debug)]
struct Waiting {
    server: usize,
    since: Instant,
    entries: Vec<Entry>,
}

/// A thread's right to serve the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Ticket {
    /// The first thread's.
    pub(super) const FIRST: Ticket = Ticket(0);
}

/// What a thread left behind that was replaced.
#[derive(Debug)]
pub(super) struct Abandoned {
    /// For the thread that serves the client now.
    pub(super) ticket: Ticket,
    /// The server that did not answer.
    pub(super) server: usize,
    /// What it was asked; its outcome is unknown.
    pub(super) entries: Vec<Entry>,
}

impl Assignment {
    pub(super) fn new(alive: Sender<()>) -> Assignment {
        let state = State {
            thread: Ticket::FIRST.0,
            waiting: None,
            scout: false,
            alive: Some(alive),
        };
        Assignment {
            state: Mutex::new(state),
        }
    }

    /// Runs `work` on the state, unless another thread serves the client by now.
    fn with<T>(&self, ticket: Ticket, work: impl FnOnce(&mut State) -> T) -> Option<T> {
        let mut state = locked(&self.state);
        (state.thread == ticket.0).then(|| work(&mut state))
    }

    /// Whether this thread still serves the client.
    pub(super) fn is_held(&self, ticket: Ticket) -> bool {
        self.with(ticket, |_| ()).is_some()
    }

    /// A server is about to be asked for something.
    pub(super) fn asks(&self, ticket: Ticket, server: usize, entries: Vec<Entry>) {
        let since = Instant::now();
        let waiting = Waiting {
            server,
            since,
            entries,
        };
        self.with(ticket, |state| state.waiting = Some(waiting));
    }

    /// It has answered: what it had been asked; none when that has been decided without the answer.
    pub(super) fn answered(&self, ticket: Ticket) -> Option<Vec<Entry>> {
        let waiting = self.with(ticket, |state| state.waiting.take()).flatten()?;
        Some(waiting.entries)
    }

    /// Whether this client looks for a server on behalf of all.
    pub(super) fn is_scout(&self) -> bool {
        locked(&self.state).scout
    }

    pub(super) fn set_scout(&self, ticket: Ticket, scout: bool) {
        self.with(ticket, |state| state.scout = scout);
    }

    /// The thread ends.
    pub(super) fn leave(&self, ticket: Ticket) {
        self.with(ticket, |state| drop(state.alive.take()));
    }

    /// Replaces a thread that has waited for longer than `timeout`.
    pub(super) fn take_over(&self, timeout: Duration, now: Instant) -> Option<Abandoned> {
        let mut state = locked(&self.state);
        let waiting = state
            .waiting
            .take_if(|waiting| now.saturating_duration_since(waiting.since) > timeout)?;
        state.thread += 1;
        Some(Abandoned {
            ticket: Ticket(state.thread),
            server: waiting.server,
            entries: waiting.entries,
        })
    }

    /// The run is over: what has not been answered by now is of unknown outcome.
    pub(super) fn give_up(&self) -> Vec<Entry> {
        let mut state = locked(&self.state);
        state.thread += 1;
        let waiting = state.waiting.take();
        waiting.map(|waiting| waiting.entries).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::generator::{Generator, Mix};

    #[test]
    fn a_thread_that_was_replaced_decides_nothing_any_more() {
        let (alive, left) = crossbeam_channel::bounded(0);
        let (assignment, first) = (Assignment::new(alive), Ticket::FIRST);
        let timeout = Duration::from_secs(5);
        let later = Instant::now() + Duration::from_secs(60);
        assert!(assignment.take_over(timeout, later).is_none());
        let entries = Generator::new(0, Mix::Inserts).next(uuid::Uuid::new_v4());
        assignment.asks(first, 3, entries.clone());
        assignment.set_scout(first, true);
        assert!(assignment.take_over(timeout, Instant::now()).is_none());
        let abandoned = assignment.take_over(timeout, later).unwrap();
        assert_eq!((abandoned.server, &abandoned.entries), (3, &entries));
        assert!(assignment.is_scout() && !assignment.is_held(first));

        let second = abandoned.ticket;
        assignment.asks(second, 4, entries.clone());
        assert_eq!(assignment.answered(first), None);
        assignment.leave(first);
        assert!(left.try_recv().is_err_and(|error| error.is_empty()));
        assert_eq!(assignment.answered(second), Some(entries));
        assignment.leave(second);
        assert!(left.try_recv().is_err_and(|error| error.is_disconnected()));
    }
}
