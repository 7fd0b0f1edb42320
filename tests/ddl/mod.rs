//! Statements that change the schema while the data is replicated.

mod both_sides;
mod interrupted;
mod same;
mod writer;
