//! The ways out: a pause is ended or undone, a run that stopped half-way is settled, a migration is cleaned up or given up.

pub(super) mod abandon;
pub(super) mod cleanup;
pub(super) mod resume;
pub(super) mod settle;
pub(super) mod undo;
