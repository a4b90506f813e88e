//! The model network: ordered, delayed, breakable links, and questions with timeouts.

use std::collections::BTreeMap;

use cocoon_node::link::LinkId;

/// What travels.
#[derive(Clone)]
pub enum Wire {
    Packet(Vec<u8>),
    Query(i64, Vec<u8>),
    Answer(i64, Result<Vec<u8>, (i32, String)>),
}

/// One side of a connection.
pub struct End {
    pub node: usize,
    pub inc: u32,
    pub link: LinkId,
    /// This side still believes in it.
    pub alive: bool,
    /// It was told of the end.
    pub downed: bool,
    /// When the last thing sent to this side arrives.
    pub last: u64,
    /// Open questions of this side: query id to ticket.
    pub asks: BTreeMap<i64, u64>,
}

/// A connection: end 0 dialled.
pub struct Conn {
    pub ends: [End; 2],
    /// Nothing is carried any more.
    pub broken: bool,
    next_query: i64,
}

/// All connections of the run.
#[derive(Default)]
pub struct Net {
    pub conns: Vec<Conn>,
    links: BTreeMap<LinkId, (usize, usize)>,
    next_link: u64,
}

impl Net {
    /// A new connection between a dialler and an acceptor (node and incarnation).
    pub fn connect(&mut self, dialler: (usize, u32), acceptor: (usize, u32)) -> usize {
        let index = self.conns.len();
        let ends = [dialler, acceptor].map(|(node, inc)| {
            self.next_link += 1;
            End {
                node,
                inc,
                link: LinkId(self.next_link),
                alive: true,
                downed: false,
                last: 0,
                asks: BTreeMap::new(),
            }
        });
        for (side, end) in ends.iter().enumerate() {
            self.links.insert(end.link, (index, side));
        }
        self.conns.push(Conn {
            ends,
            broken: false,
            next_query: 0,
        });
        index
    }

    /// Connection and side of a link.
    pub fn find(&self, link: LinkId) -> Option<(usize, usize)> {
        self.links.get(&link).copied()
    }

    /// A fresh query id, remembered for the answer.
    pub fn ask(&mut self, conn: usize, side: usize, ticket: u64) -> i64 {
        let c = &mut self.conns[conn];
        c.next_query += 1;
        c.ends[side].asks.insert(c.next_query, ticket);
        c.next_query
    }

    /// Connections that still carry data.
    pub fn open(&self) -> Vec<usize> {
        let live = |c: &Conn| !c.broken && c.ends[0].alive && c.ends[1].alive;
        (0..self.conns.len())
            .filter(|i| live(&self.conns[*i]))
            .collect()
    }
}
