//! The initial copy: PostgreSQL's own, and flare's.

mod kinds;
mod native;
mod same;
