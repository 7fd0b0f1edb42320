//! What the sessions of a server tell each other within a round, without flare in between.

use uuid::Uuid;

use crate::cutover::pause::batch::twice;
use crate::value::Literal;

/// How a session says that it has come so far.
///
/// It holds an advisory lock from before the pause on. When it has come so far it takes a second one, which says so to
/// everybody on the server, and lets go of the first, for which others of its database wait without looking. Both locks
/// bear its pid, and end with it: whoever wakes looks whether the second is there.
#[derive(Clone, Copy, Debug)]
pub(in crate::cutover) enum Signal {
    /// It has planned what it will ask, and waits for the others.
    Ready = 1,
    /// Nobody else can connect, and the journal has it.
    Revoked = 2,
    /// The published tables are locked.
    Locked = 3,
    /// Every session of the application has ended.
    Terminated = 4,
    /// The sequences are set.
    Sequences = 5,
    /// The fence is open.
    Opened = 6,
    /// New sessions of the target may write.
    Switched = 7,
    /// The locks are to become the fence: the point of no return is next.
    Fence = 8,
    /// The locks are at it on the server, whatever becomes of their client.
    Fencing = 9,
    /// The fence stands, and the locks have gone.
    Fenced = 10,
    /// The last row of the database is written.
    Probed = 11,
}

/// True when whoever has taken a run over says that it is past its point of no return; can be asked in any database.
pub(super) fn decided_by_others(run: Uuid) -> String {
    let [class, object] = Signal::of_run(run);
    format!(
        "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND classid::bigint = {class} AND objid::bigint = {})",
        object as u32
    )
}

/// The first key of the signals' locks: "fls" in ASCII, and the signal.
const SIGNALS: i32 = 0x66_6c_73_00;
/// Added for the lock that is held until then.
const NOT_YET: i32 = 0x10;

impl Signal {
    fn given(self) -> i32 {
        SIGNALS + self as i32
    }

    fn not_yet(self) -> i32 {
        self.given() + NOT_YET
    }

    /// The statement with which the session begins that will give it.
    pub(in crate::cutover) fn hold(self) -> String {
        format!(
            "SELECT pg_advisory_lock({}, pg_backend_pid())",
            self.not_yet()
        )
    }

    /// The lock by which whoever has taken a run over says that it is decided.
    pub(super) fn of_run(run: Uuid) -> [i32; 2] {
        let (start, ..) = run.as_fields();
        [SIGNALS, start as i32]
    }

    /// The statement that lets go of the first lock and says nothing.
    pub(super) fn let_go(self) -> String {
        format!(
            "SELECT pg_advisory_unlock({}, pg_backend_pid())",
            self.not_yet()
        )
    }

    /// Waits in a block, within its lock_timeout, until a server process of the same database gives it or has ended.
    pub(super) fn await_lock(self, pid: i32) -> String {
        format!(
            "PERFORM pg_advisory_xact_lock_shared({}, {pid});",
            self.not_yet()
        )
    }

    /// Says so in a block to whoever looks for it; for a signal that nobody waits for by its lock.
    pub(in crate::cutover) fn show(self) -> String {
        format!("PERFORM {};", self.showing())
    }

    /// Takes back what a session of its own has shown.
    pub(super) fn hide(self) -> String {
        format!(
            "PERFORM pg_advisory_unlock({}, pg_backend_pid());",
            self.given()
        )
    }

    pub(super) fn showing(self) -> String {
        format!("pg_advisory_lock({}, pg_backend_pid())", self.given())
    }

    /// What gives it, as a list of expressions: others hear of it before the transaction has committed.
    pub(super) fn giving(self) -> String {
        format!(
            "{}, pg_advisory_unlock({}, pg_backend_pid())",
            self.showing(),
            self.not_yet()
        )
    }

    /// The same in a block.
    pub(in crate::cutover) fn give(self) -> String {
        format!("PERFORM {};", self.giving())
    }

    /// True when the server process has given it; can be asked in any database.
    pub(in crate::cutover) fn given_by(self, pid: i32) -> String {
        format!(
            "EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = {pid}
                AND classid::bigint = {} AND objid::bigint = {pid})",
            self.given()
        )
    }

    /// Waits in a block until a server process of the same database gives it, or has ended; fails at the deadline.
    pub(in crate::cutover) fn await_lock_of(self, pid: i32, for_what: &str) -> String {
        format!(
            "BEGIN
               PERFORM set_config('lock_timeout', {LEFT}, true);
               PERFORM pg_advisory_xact_lock_shared({}, {pid});
             EXCEPTION WHEN lock_not_available THEN
               RAISE EXCEPTION 'the pause is longer than max_pause: not in time: %', {} USING ERRCODE = 'query_canceled';
             END;",
            self.not_yet(),
            Literal(for_what),
        )
    }

    /// The same, and fails when that one has ended without giving it.
    pub(in crate::cutover) fn await_from(self, pid: i32, for_what: &str) -> String {
        format!(
            "{} IF NOT given THEN RAISE EXCEPTION 'the session has ended that was to come first: %', {}; END IF;",
            twice(
                &self.await_lock_of(pid, for_what),
                &format!("given := {};", self.given_by(pid))
            ),
            Literal(for_what),
        )
    }
}

/// What is left until the deadline of a block, as a setting in milliseconds.
const LEFT: &str =
    "greatest(1, ceil(extract(epoch FROM until - clock_timestamp()) * 1000))::bigint::text";
