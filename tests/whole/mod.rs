//! Nothing is left behind and nothing left over: what publication and subscription do not carry, and what flare puts there.

mod anything;
mod behind;
mod chain;
mod drift;
mod events;
mod exact;
mod journals_database;
mod listed;
mod not_valid;
mod refused_back;
mod sql_ascii;
mod status_schema;
mod traces;
mod untested;
