//! Peers of other versions: what our cores say is rewritten as if an older program, or the reference, had said it.
//!
//! A dialler names the versions it speaks in its first message, so cutting the range there makes both ends of a link
//! speak an older version. A proxy like the reference chooses at most 2, and reports failures with the constructors
//! of version 0 in every version (protocol.md 3.4).

use cocoon_tl::{Constructor, from_boxed, peek_id, to_boxed};
use cocoon_wire::codes;
use cocoon_wire::msg::common::VersionRange;
use cocoon_wire::msg::{client, common, http, worker};
use rand::Rng;

use super::Sim;
use super::net::Wire;
use super::node::Role;

/// How a node talks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// As our cores do: 1 to 3.
    #[default]
    Own,
    /// Names no versions at all, which means 0.
    Silent,
    /// Up to this version.
    UpTo(i32),
    /// A proxy that reports failures like the reference; as a dialler 1 to 2.
    Reference,
}

impl Dialect {
    pub fn draw(rng: &mut impl Rng) -> Self {
        match rng.random_range(0..10) {
            0 => Dialect::Silent,
            1 => Dialect::UpTo(0),
            2 => Dialect::UpTo(1),
            3 => Dialect::UpTo(2),
            4..=6 => Dialect::Reference,
            _ => Dialect::Own,
        }
    }

    fn range(self) -> Option<VersionRange> {
        let (min_proto_version, max_proto_version) = match self {
            Dialect::Own => (1, 3),
            Dialect::Silent => return None,
            Dialect::UpTo(n) => (0, n),
            Dialect::Reference => (1, 2),
        };
        Some(VersionRange {
            min_proto_version,
            max_proto_version,
        })
    }
}

/// What arrives of a message between two nodes.
pub fn translate(sim: &Sim, from: usize, to: usize, wire: Wire) -> Wire {
    if !sim.plan.mixed_versions {
        return wire;
    }
    let (sender, receiver) = (&sim.nodes[from], &sim.nodes[to]);
    match wire {
        Wire::Query(id, data) if sender.role != Role::Proxy => {
            Wire::Query(id, hello(sender.dialect, receiver.dialect, data))
        }
        Wire::Packet(data)
            if sender.dialect == Dialect::Reference && sender.role == Role::Proxy =>
        {
            Wire::Packet(failure(data))
        }
        other => other,
    }
}

fn hello(dialler: Dialect, acceptor: Dialect, data: Vec<u8>) -> Vec<u8> {
    let mut versions = dialler.range();
    if let Some(v) = &mut versions
        && acceptor == Dialect::Reference
    {
        v.max_proto_version = v.max_proto_version.min(2);
    }
    match peek_id(&data) {
        Some(client::ConnectToProxy::ID) => match from_boxed::<client::ConnectToProxy>(&data) {
            Ok(mut m) => {
                m.params.versions = versions;
                to_boxed(&m)
            }
            Err(_) => data,
        },
        Some(worker::ConnectToProxy::ID) => match from_boxed::<worker::ConnectToProxy>(&data) {
            Ok(mut m) => {
                m.params.versions = versions;
                to_boxed(&m)
            }
            Err(_) => data,
        },
        _ => data,
    }
}

/// The failures of our proxy in the reference's words.
fn failure(data: Vec<u8>) -> Vec<u8> {
    let nothing = common::TokensUsed::default();
    match peek_id(&data) {
        Some(client::QueryAnswerErrorEx::ID) => {
            let Ok(m) = from_boxed::<client::QueryAnswerErrorEx>(&data) else {
                return data;
            };
            to_boxed(&client::QueryAnswerPartError {
                error_code: m.error_code,
                error: m.error,
                request_id: m.request_id,
                request_tokens_used: m.final_info.map_or(nothing, |f| f.tokens_used),
            })
        }
        Some(client::QueryAnswerEx::ID) => {
            let Ok(m) = from_boxed::<client::QueryAnswerEx>(&data) else {
                return data;
            };
            let status = from_boxed::<http::Response>(&m.answer).map_or(0, |r| r.status_code);
            match m.final_info {
                Some(f) if status >= 400 => to_boxed(&client::QueryAnswerError {
                    error_code: codes::NOTREADY,
                    error: "refused".to_owned(),
                    request_id: m.request_id,
                    request_tokens_used: f.tokens_used,
                }),
                _ => data,
            }
        }
        _ => data,
    }
}
