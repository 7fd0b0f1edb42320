//! The initial copy: PostgreSQL's own, and flare's.

mod adopt;
mod faults;
mod kinds;
mod moments;
mod native;
mod rds;
mod rewritten;
mod same;
mod sizes;
mod upgraded;
mod writers;
