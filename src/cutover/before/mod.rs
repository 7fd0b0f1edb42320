//! Before the pause, as long as it takes; nothing that the application notices.

pub(super) mod build;
pub(super) mod checks;
pub(super) mod heartbeat;
pub(super) mod look;
pub(super) mod plan;
pub(super) mod ready;
pub(super) mod record;
pub(super) mod run_lock;
pub(crate) mod seen;
pub(super) mod sequences;
pub(super) mod views;
pub(super) mod way_back;
