//! The initial copy: PostgreSQL's own, and flare's.

mod native;
