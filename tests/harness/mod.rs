//! What the other tests rely on: servers that are what they should be, and that never stay.

mod application;
mod leftovers;
mod programs;
mod proxy;
mod servers;

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
