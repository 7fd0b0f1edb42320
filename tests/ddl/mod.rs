//! Statements that change the schema while the data is replicated.

mod administrator;
mod applications;
mod both_sides;
mod carry;
mod copying;
mod deploys;
mod in_flight;
mod interrupted;
mod rds;
mod refusals;
mod renewed;
mod repair;
mod same;
mod stuck;
mod truncate;
mod writer;
