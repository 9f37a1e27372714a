//! The JSON-lines contract that all tools share: what a record looks like, how
//! a stream of them is read, written and shown as a table.
//!
//! One JSON object a line, first key `type`. Unknown values are `null` and
//! their key stays. Fields are only ever added. `schema/*.json` beside this
//! crate says the same to other programs, and the tests hold every line that a
//! tool prints against it.

mod address;
mod change;
mod columns;
mod device;
mod failure;
mod hint;
mod lxc;
mod read;
mod record;
mod runfile;
mod schema;
mod table;
mod vgpu;
mod write;

pub use address::{Address, AddressError, Slot, address_hint};
pub use change::*;
pub use columns::{Cell, Overflow, Table, escape_controls};
pub use device::*;
pub use failure::{Exit, Failure, fail};
pub use hint::{CommandLine, Hint, shell_words};
pub use lxc::*;
pub use read::{ReadError, ReadLimits, RecordStream, read};
pub use record::*;
pub use runfile::*;
pub use schema::{SCHEMAS, Schema};
pub use vgpu::*;
pub use write::{Output, RecordWriter, outlive_reader, outlives_reader, print_text};
