//! The holder of a run is alive, however long the preparation takes: it says so every few seconds, by a session of its
//! own. A frozen one falls silent, and may be taken over from.

use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use uuid::Uuid;

use crate::error::Result;
use crate::journal;
use crate::server::{Login, Publisher};

const EVERY: Duration = Duration::from_secs(2);

/// Beats until it is dropped.
pub(in crate::cutover) struct Heartbeat(
    #[expect(dead_code, reason = "dropped to end the thread")] Sender<()>,
);

impl Heartbeat {
    /// Starts to beat for a run that is on record on *from*.
    pub(in crate::cutover) fn start(from: &Publisher, run: Uuid) -> Result<Heartbeat> {
        let session = from.connect(Login::Superuser, "postgres")?;
        let (alive, ended) = bounded::<()>(0);
        std::thread::spawn(move || {
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if let Err(report) = journal::beat(&session, run) {
                    log::info!("say that the run goes on: {report:#}");
                    return;
                }
            }
        });
        Ok(Heartbeat(alive))
    }
}
