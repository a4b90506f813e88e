//! The objects inside frames (`spec/protocol.md`, 1.4 to 1.6).

cocoon_tl::tl_objects! {
    /// Keepalive; to be answered at once.
    ///
    /// dialler → acceptor (either side must answer), frame.
    #[derive(Copy, Eq)]
    "tcp.ping id:long = tcp.Packet",
    pub struct Ping {
        /// Chosen by the side that asks; the answer repeats it.
        id: i64,
    }

    /// Answer to a ping with its id.
    ///
    /// side that got the ping, frame.
    #[derive(Copy, Eq)]
    "tcp.pong id:long = tcp.Packet",
    pub struct Pong {
        /// Chosen by the side that asks; the answer repeats it.
        id: i64,
    }

    /// A one-way message.
    ///
    /// either, frame.
    #[derive(Eq)]
    "tcp.packet data:bytes = tcp.Packet",
    pub struct Packet {
        /// A boxed application object.
        @hidden data: Vec<u8>,
    }

    /// The result of a query.
    ///
    /// side that got the query, frame.
    #[derive(Eq)]
    "tcp.queryAnswer id:long data:bytes = tcp.Packet",
    pub struct QueryAnswer {
        /// Chosen by the side that asks; the answer repeats it.
        id: i64,
        /// A boxed application object.
        @hidden data: Vec<u8>,
    }

    /// The failure of a query.
    ///
    /// side that got the query, frame.
    #[derive(Eq)]
    "tcp.queryError id:long code:int message:string = tcp.Packet",
    pub struct QueryError {
        /// Chosen by the side that asks; the answer repeats it.
        id: i64,
        /// See [`codes`](crate::codes).
        code: i32,
        /// For a human.
        message: String,
    }

    /// A request that expects an answer.
    ///
    /// either, frame.
    #[derive(Eq)]
    "tcp.query id:long data:bytes = tcp.Packet",
    pub struct Query {
        /// Chosen by the side that asks; the answer repeats it.
        id: i64,
        /// A boxed application object.
        @hidden data: Vec<u8>,
    }

    /// First frame of the acceptor, with the id of the dialler.
    ///
    /// acceptor → dialler, frame, always seqno 0.
    #[derive(Copy, Eq)]
    "tcp.connected id:long = tcp.Packet",
    pub struct Connected {
        /// The id of `tcp.connect`.
        id: i64,
    }

    /// First frame of the dialler.
    ///
    /// dialler → acceptor, frame, always seqno 0.
    #[derive(Copy, Eq)]
    "tcp.connect id:long = tcp.Packet",
    pub struct Connect {
        /// Random.
        id: i64,
    }
}

cocoon_tl::tl_union! {
    /// The object in a frame: TL type `tcp.Packet`.
    #[derive(Eq)]
    pub enum Payload {
        /// Keepalive.
        Ping(Ping),
        /// Answer to a keepalive.
        Pong(Pong),
        /// One-way message.
        Packet(Packet),
        /// Result of a query.
        QueryAnswer(QueryAnswer),
        /// Failure of a query.
        QueryError(QueryError),
        /// Query.
        Query(Query),
        /// Handshake of the acceptor.
        Connected(Connected),
        /// Handshake of the dialler.
        Connect(Connect),
    }
}
