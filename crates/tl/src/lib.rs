//! TL encoding: integers, strings, vectors, boxed and bare objects, constructor ids.
//!
//! The subset of TL that the network uses (`spec/protocol.md`, section 2). Objects are declared with
//! [`tl_objects!`], unions of boxed alternatives with [`tl_union!`]; both keep the declaration text of the
//! scheme next to the Rust type and derive the constructor id from it at compile time.

mod codec;
mod error;
mod flags;
mod id;
mod macros;
mod object;
mod reader;

pub use codec::{TlRead, TlWrite, write_bytes};
pub use error::TlError;
pub use flags::Flags;
pub use id::{constructor_id, constructor_name, crc32};
pub use object::{Boxed, Constructor, Hidden, from_bare, from_boxed, peek_id, to_bare, to_boxed};
pub use reader::Reader;
