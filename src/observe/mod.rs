//! Seeing: one sampler, that feeds the monitor, the lag, the JSON and the Prometheus text.
//!
//! What enters here only looks, and goes on looking when a server goes away.

mod display;
mod sample;
mod sampler;

pub use sample::{
    ApplyErrors, Connection, PublisherSample, Sample, Slot, SubscriberSample, Subscription,
    Unready, Walsender, Worker,
};
pub use sampler::Sampler;
