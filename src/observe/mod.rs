//! Seeing: one sampler, that feeds the monitor, the lag, the JSON and the Prometheus text.
//!
//! What enters here only looks, and goes on looking when a server goes away.

mod age;
mod causes;
mod copying;
#[cfg(feature = "cli")]
mod display;
mod headline;
mod history;
mod lag;
mod look;
mod lsn_history;
mod nagios;
mod oldest_change;
mod prometheus;
mod rates;
mod retention;
mod sample;
mod sampler;
mod side_session;
mod surveyor;
mod suspects;
mod unanswered;
mod verdict;
mod window;

pub(crate) use age::seconds_in_words;
pub(crate) use causes::span;
pub use causes::{Cause, CauseKind};
pub use copying::{CopiedTable, Copying};
#[cfg(feature = "cli")]
pub(crate) use display::copy_state;
pub(crate) use headline::{Headline, Ready, Watch};
pub(crate) use lag::{Divergence, lag};
pub use lag::{LagReport, SubscriptionLag};
pub(crate) use look::Trace;
pub(crate) use nagios::{nagios, plain};
pub use rates::Rates;
pub use retention::{Retention, RetentionLimit};
#[cfg(test)]
pub(crate) use sample::tests::sample as fixed_sample;
pub use sample::{
    ApplyErrors, Blocker, Connection, CopyProgress, DecodingStats, IndexBuild, LagParts,
    OldTransaction, PublisherSample, RowCounts, Sample, Slot, SubscriberSample, Subscription,
    Tables, Unready, Waits, Walsender, Worker, Workers,
};
pub use sampler::Sampler;
pub(crate) use side_session::Silent;
pub(crate) use suspects::{Stopped, in_the_way, in_words, suspects};
pub use suspects::{Suspect, SuspectKind};
pub use unanswered::Unanswered;
pub use verdict::LagStatus;
