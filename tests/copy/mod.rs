//! The initial copy: PostgreSQL's own, and flare's.

mod adopt;
mod faults;
mod kinds;
mod moments;
mod native;
mod same;
mod writers;
