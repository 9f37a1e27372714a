//! The JSON-lines contract that all tools share: what a record looks like, how
//! a stream of them is read, written and shown as a table.
//!
//! One JSON object a line, first key `type`. Unknown values are `null` and
//! their key stays. Fields are only ever added. `schema/*.json` beside this
//! crate says the same to other programs, and the tests hold every line that a
//! tool prints against it.

mod address;
mod cause;
mod colour;
mod columns;
mod read;
mod runfile;
mod schema;
mod table;
mod types;
mod write;

pub use address::{Address, AddressError, Slot, meant};
pub use columns::{Cell, Overflow, Table, escape_controls};
pub use read::{Limits, ReadError, Stream, read};
pub use runfile::*;
pub use schema::{SCHEMAS, Schema};
pub use types::*;
pub use write::{Output, Sink, print_text};
