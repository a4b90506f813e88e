//! The contracts under test: behaviour cases, properties, and mutants that show what the tests are worth.

#[macro_use]
mod listed;

mod bad_input;
mod behaviour;
mod books;
mod checker;
mod codes;
mod driver;
mod exits;
mod getters;
mod governance;
mod model;
mod mutants;
mod net;
mod properties;
mod regressions;
mod rng;
mod sim;
mod smoke;
mod weaknesses;
mod world;
