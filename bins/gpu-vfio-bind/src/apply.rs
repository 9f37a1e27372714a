//! Carries the steps of `bind` and `release` out.

mod functions;
mod prepare;
mod run;

pub use functions::DriverWriter;
pub use run::{Direction, FunctionRun};
