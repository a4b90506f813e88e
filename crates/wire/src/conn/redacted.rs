//! `Debug` of a connection: constructors and sizes, but no contents, which may be confidential.

use std::fmt;

use super::{Conn, Event, Outcome};
use crate::msg::catalogue::describe;

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("Ready"),
            Self::Packet(data) => write!(f, "Packet({}, {} bytes)", describe(data), data.len()),
            Self::Query { id, data } => {
                write!(f, "Query({id}, {}, {} bytes)", describe(data), data.len())
            }
        }
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.id;
        match &self.result {
            Ok(data) => write!(f, "Answer({id}, {}, {} bytes)", describe(data), data.len()),
            Err(failure) => write!(f, "Failure({id}, {failure:?})"),
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("role", &self.role)
            .field("state", &self.state)
            .field("input", &self.decoder)
            .field("outbound", &self.outbound())
            .field("last_received", &self.last_received)
            .field("queries", &self.queries)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
