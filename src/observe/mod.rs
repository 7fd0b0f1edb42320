//! Seeing: one sampler, that feeds the monitor, the lag, the JSON and the Prometheus text.
//!
//! What enters here only looks, and goes on looking when a server goes away.

mod display;
mod history;
mod lag;
mod look;
mod lsn_history;
mod peek;
mod prometheus;
mod sample;
mod sampler;
mod verdict;
mod watched;

pub(crate) use lag::lag;
pub use lag::{LagReport, SubscriptionLag};
pub(crate) use look::Trace;
pub use sample::{
    ApplyErrors, Connection, PublisherSample, Sample, Slot, SubscriberSample, Subscription, Tables,
    Unready, Walsender, Worker,
};
pub use sampler::Sampler;
pub use verdict::LagStatus;
pub(crate) use watched::Silent;
