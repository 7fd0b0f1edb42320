//! cutover and fallback: nothing is lost, one side is open, and there is a way back, whatever happens on the way.

mod abandon;
mod afterwards;
mod as_before;
mod at_work;
mod closed;
pub mod dice;
pub mod faults;
pub mod fixture;
mod guards;
mod hooks;
mod late;
mod neighbours;
mod poolers;
mod race;
mod random_kill;
mod round_trips;
mod several;
pub mod state;
mod surroundings;
mod there_and_back;
