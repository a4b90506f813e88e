//! One connection to a peer as a state machine: no I/O, no clock, no randomness.
//!
//! Time is an argument: the [`Duration`] since any fixed moment, never going back. Random ids are arguments.
//! The owner feeds bytes and calls [`Conn::tick`] at [`Conn::next_deadline`]; it takes bytes to write,
//! events and query results. After every call it looks at [`Conn::closed`].

mod queries;
mod redacted;

use std::collections::VecDeque;
use std::time::Duration;

use cocoon_tl::{Boxed, from_boxed};

use crate::frame::{Decoder, HEADER, MAX_PAYLOAD, header};
use crate::msg::tcp;
use crate::{CloseReason, QueryFailure, SendError, codes};
use queries::OpenQueries;

/// A dialler closes after this much silence (`spec/protocol.md`, 1.6).
pub const DIALLER_SILENCE: Duration = Duration::from_secs(20);
/// An acceptor closes after this much silence (`spec/protocol.md`, 1.6).
pub const ACCEPTOR_SILENCE: Duration = Duration::from_secs(60);
/// A dialler pings with this period whatever else happens: an acceptor that only streams must hear something
/// every 60 s, and a dialler must hear a pong every 20 s (`spec/protocol.md`, 1.6).
pub const PING_PERIOD: Duration = Duration::from_secs(10);
/// Bytes that may wait for a peer that reads slowly. Holds one frame of the largest size and as much again,
/// so that no legal message is refused because of another one.
pub const MAX_OUTBOUND: usize = 2 * MAX_PAYLOAD;
/// How long the last bytes may take after a decision to close.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Which side opened the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// This side: sends `tcp.connect` and pings.
    Dialler,
    /// The peer: this side answers.
    Acceptor,
}

impl Role {
    /// The receive timeout of this role.
    pub fn silence(self) -> Duration {
        match self {
            Role::Dialler => DIALLER_SILENCE,
            Role::Acceptor => ACCEPTOR_SILENCE,
        }
    }

    fn first_frame(self) -> &'static str {
        match self {
            Role::Dialler => "tcp.connected",
            Role::Acceptor => "tcp.connect",
        }
    }
}

/// What a peer did.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The transport handshake is complete.
    Ready,
    /// A one-way message: a boxed application object.
    Packet(Vec<u8>),
    /// A query, to be answered with [`Conn::answer`].
    Query {
        /// Names the query in the answer. Chosen by the peer and not necessarily unique.
        id: i64,
        /// A boxed function.
        data: Vec<u8>,
    },
}

/// A query that came to its end.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The id given to [`Conn::query`].
    pub id: i64,
    /// The answer.
    pub result: Result<Vec<u8>, QueryFailure>,
}

#[derive(Debug)]
enum State {
    /// Frames of the application wait in `held` with their numbers already assigned.
    Handshake,
    Ready,
    /// No input is looked at any more; ends when the output is written, at the latest at `until`.
    Draining {
        reason: String,
        until: Duration,
    },
    Closed(CloseReason),
}

/// One connection.
pub struct Conn {
    role: Role,
    state: State,
    decoder: Decoder,
    /// Number of the next frame of the application.
    next_seqno: i32,
    held: Vec<u8>,
    out: Vec<u8>,
    /// Bytes handed out by `take_output` and not yet confirmed by `wrote`.
    in_flight: usize,
    max_outbound: usize,
    last_received: Duration,
    input_paused: bool,
    next_ping: Option<Duration>,
    ping_id: i64,
    queries: OpenQueries,
    events: VecDeque<Event>,
    outcomes: VecDeque<Outcome>,
}

impl Conn {
    /// Starts a connection on a stream that exists since `now`. A dialler's `tcp.connect` carries `connect_id`,
    /// which should be random.
    pub fn new(role: Role, connect_id: i64, now: Duration) -> Self {
        let mut conn = Conn {
            role,
            state: State::Handshake,
            decoder: Decoder::new(),
            // Frame 0 is the handshake of this side.
            next_seqno: 1,
            held: Vec::new(),
            out: Vec::new(),
            in_flight: 0,
            max_outbound: MAX_OUTBOUND,
            last_received: now,
            input_paused: false,
            next_ping: None,
            ping_id: connect_id,
            queries: OpenQueries::default(),
            events: VecDeque::new(),
            outcomes: VecDeque::new(),
        };
        if role == Role::Dialler {
            let connect = tcp::Connect { id: connect_id };
            // Sixteen bytes always fit.
            let _ = write_frame(&connect, 0, &mut conn.out);
        }
        conn
    }

    /// Changes the limit on waiting bytes from [`MAX_OUTBOUND`].
    pub fn set_max_outbound(&mut self, bytes: usize) {
        self.max_outbound = bytes;
    }

    /// The side of this connection.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Why the connection ended, if it did.
    pub fn closed(&self) -> Option<&CloseReason> {
        match &self.state {
            State::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the transport handshake is complete and nobody decided to close.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// The next event, in the order of the frames.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The size of the data of the next event, if there is an event.
    pub fn next_event_size(&self) -> Option<usize> {
        self.events.front().map(|event| match event {
            Event::Ready => 0,
            Event::Packet(data) | Event::Query { data, .. } => data.len(),
        })
    }

    /// The next query that came to its end. Outcomes are not ordered relative to events.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Takes all bytes that shall be written now. Confirm them with [`Conn::wrote`].
    pub fn take_output(&mut self) -> Vec<u8> {
        self.in_flight += self.out.len();
        std::mem::take(&mut self.out)
    }

    /// Whether [`Conn::take_output`] would give something.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// The stream accepted this many of the bytes taken.
    pub fn wrote(&mut self, bytes: usize) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.finish_draining();
    }

    /// Bytes that wait to be written.
    pub fn outbound(&self) -> usize {
        self.held.len() + self.out.len() + self.in_flight
    }

    /// Bytes came from the stream.
    pub fn receive(&mut self, now: Duration, bytes: &[u8]) {
        if !matches!(self.state, State::Handshake | State::Ready) {
            return;
        }
        self.decoder.extend(bytes);
        while matches!(self.state, State::Handshake | State::Ready) {
            match self.decoder.next_frame() {
                Ok(None) => break,
                Err(error) => self.close(error.into()),
                Ok(Some(frame)) => {
                    let seqno = frame.seqno;
                    match from_boxed(frame.payload) {
                        Err(error) => self.close(CloseReason::Unparsable { seqno, error }),
                        Ok(payload) => {
                            self.last_received = now;
                            self.handle(now, payload);
                        }
                    }
                }
            }
        }
    }

    /// The stream ended, in an orderly way or not.
    pub fn receive_end(&mut self) {
        self.close(CloseReason::PeerClosed);
    }

    /// The owner stops or resumes reading the stream because it cannot take more events. Silence is not held
    /// against a peer that is not listened to.
    pub fn pause_input(&mut self, now: Duration, paused: bool) {
        self.input_paused = paused;
        self.last_received = now;
    }

    /// When [`Conn::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Duration> {
        let silence =
            (!self.input_paused).then(|| self.last_received.saturating_add(self.role.silence()));
        match &self.state {
            State::Closed(_) => None,
            State::Draining { until, .. } => Some(*until),
            State::Handshake | State::Ready => {
                [silence, self.next_ping, self.queries.next_deadline()]
                    .into_iter()
                    .flatten()
                    .min()
            }
        }
    }

    /// Does what time demands: query timeouts, pings, closing.
    pub fn tick(&mut self, now: Duration) {
        match &self.state {
            State::Closed(_) => return,
            State::Draining { reason, until } => {
                if now >= *until {
                    let reason = CloseReason::FlushTimeout(reason.clone());
                    self.close(reason);
                }
                return;
            }
            State::Handshake | State::Ready => {}
        }
        while let Some(id) = self.queries.pop_expired(now) {
            self.outcomes.push_back(Outcome {
                id,
                result: Err(QueryFailure::Timeout),
            });
        }
        let silence = self.role.silence();
        if !self.input_paused && now >= self.last_received.saturating_add(silence) {
            return self.close(CloseReason::Silence(silence));
        }
        if self.next_ping.is_some_and(|due| now >= due) {
            self.next_ping = Some(now + PING_PERIOD);
            self.ping_id = self.ping_id.wrapping_add(1);
            let _ = self.send(&tcp::Ping { id: self.ping_id }, 0);
        }
    }

    /// Sends a one-way message. Before the handshake is complete it waits.
    pub fn send_packet(&mut self, data: Vec<u8>) -> Result<(), SendError> {
        let size = data.len();
        self.send(&tcp::Packet { data }, size)
    }

    /// Sends a query; its end comes from [`Conn::poll_outcome`], unless this call fails.
    pub fn query(
        &mut self,
        now: Duration,
        id: i64,
        data: Vec<u8>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        if self.queries.contains(id) {
            return Err(SendError::DuplicateQueryId(id));
        }
        let size = data.len();
        self.send(&tcp::Query { id, data }, size)?;
        self.queries.insert(id, now.saturating_add(timeout));
        Ok(())
    }

    /// Whether a query with this id is open.
    pub fn is_open(&self, id: i64) -> bool {
        self.queries.contains(id)
    }

    /// Nobody waits for this query any more; its answer will be ignored.
    pub fn forget_query(&mut self, id: i64) {
        self.queries.remove(id);
    }

    /// Answers a query of the peer. An answer that is too large for a frame becomes an error with code 601, so
    /// that the peer does not wait for nothing. On a closed connection nothing happens.
    pub fn answer(&mut self, id: i64, result: Result<Vec<u8>, (i32, String)>) {
        let error = match result {
            Ok(data) => {
                let size = data.len();
                match self.send(&tcp::QueryAnswer { id, data }, size) {
                    Err(SendError::TooLarge { size }) => (
                        codes::FAILURE,
                        format!("the answer of {size} bytes is too large"),
                    ),
                    _ => return,
                }
            }
            Err(error) => error,
        };
        let (code, message) = error;
        let size = message.len();
        let sent = self.send(&tcp::QueryError { id, code, message }, size);
        if matches!(sent, Err(SendError::TooLarge { .. })) {
            let message = "the error text is too large".to_owned();
            let _ = self.send(&tcp::QueryError { id, code, message }, 0);
        }
    }

    /// Ends the connection now. Waiting bytes are dropped, open queries fail. The first reason stays.
    pub fn close(&mut self, reason: CloseReason) {
        let reason = match (&self.state, reason) {
            (State::Closed(_), _) => return,
            // The decision was made before; the peer's end of the stream merely came first.
            (
                State::Draining {
                    reason: decided, ..
                },
                CloseReason::PeerClosed | CloseReason::Io(_),
            ) => CloseReason::Local(decided.clone()),
            (_, reason) => reason,
        };
        self.state = State::Closed(reason);
        self.out = Vec::new();
        self.held = Vec::new();
        self.in_flight = 0;
        self.fail_queries();
    }

    /// Ends the connection when everything that waits is written, at the latest after [`FLUSH_TIMEOUT`]. From now
    /// on nothing is accepted for sending, nothing received is looked at, and open queries fail.
    pub fn close_after_flush(&mut self, now: Duration, reason: &str) {
        if !matches!(self.state, State::Handshake | State::Ready) {
            return;
        }
        // Without a handshake the peer would not understand what waits.
        self.held = Vec::new();
        self.state = State::Draining {
            reason: reason.to_owned(),
            until: now.saturating_add(FLUSH_TIMEOUT),
        };
        self.fail_queries();
        self.finish_draining();
    }

    fn finish_draining(&mut self) {
        if let State::Draining { reason, .. } = &self.state
            && self.outbound() == 0
        {
            let reason = CloseReason::Local(reason.clone());
            self.close(reason);
        }
    }

    fn fail_queries(&mut self) {
        for id in self.queries.drain() {
            self.outcomes.push_back(Outcome {
                id,
                result: Err(QueryFailure::Closed),
            });
        }
    }

    fn handle(&mut self, now: Duration, payload: tcp::Payload) {
        if matches!(self.state, State::Handshake) {
            return self.handshake(now, payload);
        }
        match payload {
            tcp::Payload::Ping(ping) => {
                // Counts against the limit on waiting bytes, so a flood of pings cannot fill memory.
                let _ = self.send(&tcp::Pong { id: ping.id }, 0);
            }
            tcp::Payload::Packet(packet) => self.events.push_back(Event::Packet(packet.data)),
            tcp::Payload::Query(query) => self.events.push_back(Event::Query {
                id: query.id,
                data: query.data,
            }),
            tcp::Payload::QueryAnswer(answer) => self.settle(answer.id, Ok(answer.data)),
            tcp::Payload::QueryError(error) => {
                let (code, message) = (error.code, error.message);
                self.settle(error.id, Err(QueryFailure::Remote { code, message }));
            }
            // Any frame counts as a sign of life; a late handshake frame is ignored.
            tcp::Payload::Pong(_) | tcp::Payload::Connect(_) | tcp::Payload::Connected(_) => {}
        }
    }

    fn handshake(&mut self, now: Duration, payload: tcp::Payload) {
        match (self.role, payload) {
            (Role::Acceptor, tcp::Payload::Connect(connect)) => {
                let connected = tcp::Connected { id: connect.id };
                let _ = write_frame(&connected, 0, &mut self.out);
            }
            // The reference does not compare the id either.
            (Role::Dialler, tcp::Payload::Connected(_)) => {
                self.next_ping = Some(now + PING_PERIOD);
            }
            (role, other) => {
                return self.close(CloseReason::NoHandshake {
                    expected: role.first_frame(),
                    found: other.constructor_name(),
                });
            }
        }
        self.state = State::Ready;
        self.out.append(&mut self.held);
        self.events.push_back(Event::Ready);
    }

    fn settle(&mut self, id: i64, result: Result<Vec<u8>, QueryFailure>) {
        // Late answers and answers to nothing are ignored (`spec/protocol.md`, 1.5).
        if self.queries.remove(id) {
            self.outcomes.push_back(Outcome { id, result });
        }
    }

    /// Queues an object whose variable part has `size` bytes.
    fn send<T: Boxed>(&mut self, object: &T, size: usize) -> Result<(), SendError> {
        match &self.state {
            State::Closed(reason) => return Err(SendError::Closed(reason.to_string())),
            State::Draining { reason, .. } => return Err(SendError::Closed(reason.clone())),
            State::Handshake | State::Ready => {}
        }
        if size > MAX_PAYLOAD {
            return Err(SendError::TooLarge { size });
        }
        let waiting = self.outbound();
        if waiting > 0 && waiting + size + HEADER > self.max_outbound {
            let limit = self.max_outbound;
            let reason = CloseReason::Overflow { limit };
            self.close(reason.clone());
            return Err(SendError::Closed(reason.to_string()));
        }
        let out = match self.state {
            State::Handshake => &mut self.held,
            _ => &mut self.out,
        };
        write_frame(object, self.next_seqno, out)?;
        self.next_seqno = self.next_seqno.wrapping_add(1);
        Ok(())
    }
}

/// Appends a frame, or nothing if the payload is too large.
fn write_frame<T: Boxed>(object: &T, seqno: i32, out: &mut Vec<u8>) -> Result<(), SendError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    object.write_boxed(out);
    let size = out.len() - start - HEADER;
    if size > MAX_PAYLOAD {
        out.truncate(start);
        return Err(SendError::TooLarge { size });
    }
    out[start..start + HEADER].copy_from_slice(&header(size as u32, seqno));
    Ok(())
}
