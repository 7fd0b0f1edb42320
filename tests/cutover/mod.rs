//! cutover and fallback: nothing is lost, one side is open, and there is a way back, whatever happens on the way.

mod afterwards;
mod as_before;
mod at_work;
mod faults;
mod fixture;
mod hooks;
mod neighbours;
mod poolers;
mod random_kill;
mod several;
mod there_and_back;
