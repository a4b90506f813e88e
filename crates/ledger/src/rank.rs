//! Which peer takes a request: price, measured speed, errors and load (protocol.md 5.1; rules in docs/market.md).
//!
//! Pure: no clock and no random source; `draw` is one random number for each choice. The same function ranks workers
//! at a proxy and proxies at a client.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::health::{Circuit, Health};
use crate::units::Coefficient;

/// Of so many requests, one goes to a peer that is new or was paused, if there is one.
pub const EXPLORE_ONE_IN: u64 = 8;
/// Until so many of its requests ended, a peer counts as new.
pub const NEW_UNTIL: u32 = 3;
/// A new peer gets so many requests at a time while others have room.
pub const NEW_AT_ONCE: u32 = 2;
/// A peer that holds the beginning of this request counts as so much better, if it is less than three quarters full.
pub const NEAR_FACTOR: f64 = 0.5;
/// Time to the first byte where nothing was measured anywhere.
const ASSUMED_FIRST_BYTE_MS: f64 = 1_000.0;
/// Time per token where nothing was measured anywhere.
const ASSUMED_TOKEN_MS: f64 = 20.0;
/// Added to a price in thousandths: a worker that asks for nothing is not infinitely good.
const PRICE_FLOOR: f64 = 100.0;
/// Below this, a difference in time to the first byte is noise.
const FIRST_BYTE_FLOOR_MS: f64 = 20.0;
/// Below this, a difference in time per token is noise.
const TOKEN_FLOOR_MS: f64 = 1.0;

/// What a caller wants most.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// A good mixture: two are drawn, better ones more often, and the better of the two for its load is taken.
    #[default]
    Balanced,
    /// The lowest price with room.
    Price,
    /// The shortest expected time to the first byte.
    Latency,
    /// The shortest expected time per token.
    Throughput,
}

impl Sort {
    /// All, with their names.
    pub const NAMES: [(&'static str, Sort); 4] = [
        ("balanced", Sort::Balanced),
        ("price", Sort::Price),
        ("latency", Sort::Latency),
        ("throughput", Sort::Throughput),
    ];

    /// Reads a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, s)| *s)
    }

    /// On the wire of protocol version 3.
    #[must_use]
    pub fn to_wire(self) -> i32 {
        match self {
            Sort::Balanced => 0,
            Sort::Price => 1,
            Sort::Latency => 2,
            Sort::Throughput => 3,
        }
    }

    /// From the wire; what is unknown counts as no wish.
    #[must_use]
    pub fn from_wire(n: i32) -> Self {
        match n {
            1 => Sort::Price,
            2 => Sort::Latency,
            3 => Sort::Throughput,
            _ => Sort::Balanced,
        }
    }
}

/// A peer as it stands now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peer {
    /// The connection's id.
    pub id: u64,
    /// False while it says that it cannot serve.
    pub enabled: bool,
    /// Its running requests.
    pub running: u32,
    /// How many it takes at once.
    pub limit: u32,
    /// Its price factor.
    pub coefficient: Coefficient,
    /// Mean time to the first byte, milliseconds.
    pub first_byte_ms: Option<f64>,
    /// Mean time per token, milliseconds.
    pub token_ms: Option<f64>,
    /// From 0 to below 1.
    pub error_rate: f64,
    /// Requests that ended.
    pub seen: u32,
    /// Whether it is asked.
    pub circuit: Circuit,
    /// It said a moment ago that it is full.
    pub busy: bool,
    /// It answered a request with the same beginning before.
    pub near: bool,
}

impl Peer {
    /// A peer from what was measured of it.
    #[must_use]
    pub fn measured(id: u64, coefficient: Coefficient, health: &Health, now_ms: u64) -> Self {
        Self {
            id,
            enabled: true,
            running: 0,
            limit: 1,
            coefficient,
            first_byte_ms: health.first_byte_ms(),
            token_ms: health.token_ms(),
            error_rate: health.error_rate(now_ms),
            seen: health.seen(),
            circuit: health.circuit(now_ms),
            busy: health.is_busy(now_ms),
            near: false,
        }
    }

    fn has_room(&self) -> bool {
        self.running < self.limit && !self.busy
    }

    /// Share of its slots in use with one more request, above 0 and at most 1 where there is room.
    fn load(&self) -> f64 {
        f64::from(self.running.saturating_add(1)) / f64::from(self.limit.max(1))
    }

    fn is_new(&self) -> bool {
        self.seen < NEW_UNTIL
    }

    /// May be tried although little or nothing good is known of it.
    fn wants_trial(&self) -> bool {
        self.running == 0
            && match self.circuit {
                Circuit::Closed => self.is_new(),
                Circuit::Trial => true,
                Circuit::Open(_) => false,
            }
    }
}

/// What came of the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranked {
    /// This peer takes the request.
    Peer(u64),
    /// Some would do, but none has room now: worth waiting for.
    Busy,
    /// None that serves is cheap enough; the smallest coefficient among those with room (3.6 #8).
    TooExpensive(Coefficient),
    /// None serves (3.6 #9).
    NoneReady,
}

/// Chooses among peers. Their order does not matter.
#[must_use]
pub fn rank(peers: &[Peer], max_coefficient: Coefficient, sort: Sort, draw: u64) -> Ranked {
    let fits = |p: &&Peer| p.enabled && p.limit > 0 && p.coefficient <= max_coefficient;
    let fitting: Vec<&Peer> = peers.iter().filter(fits).collect();
    if fitting.is_empty() {
        let dear = peers.iter().filter(|p| p.enabled && p.has_room());
        return match dear.map(|p| p.coefficient).min() {
            Some(smallest) => Ranked::TooExpensive(smallest),
            None => Ranked::NoneReady,
        };
    }
    let mut draw = Draw(draw);
    if fitting
        .iter()
        .all(|p| matches!(p.circuit, Circuit::Open(_)))
    {
        return last_resort(&fitting);
    }
    let mut ready: Vec<&Peer> = fitting
        .iter()
        .filter(|p| p.circuit == Circuit::Closed && p.has_room())
        .copied()
        .collect();
    let mut trials: Vec<&Peer> = fitting
        .iter()
        .filter(|p| p.wants_trial() && p.has_room())
        .copied()
        // Whoever wants the lowest price tries nothing that costs more.
        .filter(|p| sort != Sort::Price || ready.iter().all(|r| p.coefficient <= r.coefficient))
        .collect();
    trials.sort_by_key(|p| p.id);
    if !trials.is_empty() && (ready.is_empty() || draw.below(EXPLORE_ONE_IN) == 0) {
        return Ranked::Peer(trials[draw.below(trials.len() as u64) as usize].id);
    }
    // Nobody knows yet how good a new one is: it does not get everything at once.
    if ready.iter().any(|p| !p.is_new()) {
        ready.retain(|p| !p.is_new() || p.running < NEW_AT_ONCE);
    }
    let known = Known::of(&fitting);
    let best = match sort {
        Sort::Balanced => draw_two(&ready, &known, &mut draw),
        Sort::Price => best_by(&ready, &known, &mut draw, |p| {
            f64::from(p.coefficient.thousandths())
        }),
        Sort::Latency => best_by(&ready, &known, &mut draw, |p| known.expected_first_byte(p)),
        Sort::Throughput => best_by(&ready, &known, &mut draw, |p| known.expected_token(p)),
    };
    best.map_or(Ranked::Busy, |p| Ranked::Peer(p.id))
}

/// All are paused: the one whose pause ends first gets one request at a time, so that a network of one worker is
/// never shut off by its own caution.
fn last_resort(fitting: &[&Peer]) -> Ranked {
    let wait = |p: &Peer| match p.circuit {
        Circuit::Open(ms) => ms,
        _ => 0,
    };
    if fitting.iter().any(|p| p.running > 0) {
        return Ranked::Busy;
    }
    let free = fitting.iter().filter(|p| p.has_room());
    free.min_by_key(|p| (wait(p), p.id))
        .map_or(Ranked::Busy, |p| Ranked::Peer(p.id))
}

/// What new peers are compared with: as good as the best that was measured.
struct Known {
    first_byte_ms: f64,
    token_ms: f64,
}

impl Known {
    fn of(peers: &[&Peer]) -> Self {
        let least = |values: &mut dyn Iterator<Item = f64>, assumed: f64| {
            let best = values
                .filter(|v| v.is_finite())
                .fold(f64::INFINITY, f64::min);
            if best.is_finite() { best } else { assumed }
        };
        Self {
            first_byte_ms: least(
                &mut peers.iter().filter_map(|p| p.first_byte_ms),
                ASSUMED_FIRST_BYTE_MS,
            ),
            token_ms: least(
                &mut peers.iter().filter_map(|p| p.token_ms),
                ASSUMED_TOKEN_MS,
            ),
        }
    }

    fn first_byte(&self, p: &Peer) -> f64 {
        let ms = p.first_byte_ms.unwrap_or(self.first_byte_ms);
        ms.max(FIRST_BYTE_FLOOR_MS)
    }

    fn token(&self, p: &Peer) -> f64 {
        p.token_ms.unwrap_or(self.token_ms).max(TOKEN_FLOOR_MS)
    }

    /// With its load and the tries that failures cost.
    fn expected_first_byte(&self, p: &Peer) -> f64 {
        self.first_byte(p) * (1.0 + p.load()) * tries(p)
    }

    fn expected_token(&self, p: &Peer) -> f64 {
        self.token(p) * (1.0 + p.load()) * tries(p)
    }

    /// Lower is better: price, the root of both times, and the square of the tries that failures cost.
    fn score(&self, p: &Peer) -> f64 {
        let price = f64::from(p.coefficient.thousandths()) + PRICE_FLOOR;
        let times = (self.first_byte(p) * self.token(p)).sqrt();
        let near = p.near && p.load() < 0.75;
        price * times * tries(p) * tries(p) * if near { NEAR_FACTOR } else { 1.0 }
    }
}

/// Tries that an answer takes on average.
fn tries(p: &Peer) -> f64 {
    let rate = if p.error_rate.is_nan() {
        0.95
    } else {
        p.error_rate.clamp(0.0, 0.95)
    };
    1.0 / (1.0 - rate)
}

/// Two different peers are drawn, with a weight of 1 / score²; the one whose score is better for its load wins.
fn draw_two<'a>(ready: &[&'a Peer], known: &Known, draw: &mut Draw) -> Option<&'a Peer> {
    let mut left: Vec<(&Peer, f64)> = ready.iter().map(|p| (*p, known.score(p))).collect();
    left.sort_by_key(|(p, _)| p.id);
    let mut best: Option<(&Peer, f64)> = None;
    for _ in 0..2 {
        if left.is_empty() {
            break;
        }
        // Relative to the best, so that no weight is lost in rounding.
        let least = left.iter().map(|(_, s)| *s).fold(f64::INFINITY, f64::min);
        let weight = |s: f64| (least / s).powi(2);
        let mut at = draw.unit() * left.iter().map(|(_, s)| weight(*s)).sum::<f64>();
        let last = left.len() - 1;
        let place = left
            .iter()
            .position(|(_, s)| {
                at -= weight(*s);
                at < 0.0
            })
            .unwrap_or(last);
        let (p, score) = left.swap_remove(place);
        let loaded = score * (1.0 + p.load()).powi(2);
        if best.is_none_or(|(_, b)| loaded < b) {
            best = Some((p, loaded));
        }
    }
    best.map(|(p, _)| p)
}

/// The smallest key; of equal ones the best score for its load; of those one at random.
fn best_by<'a>(
    ready: &[&'a Peer],
    known: &Known,
    draw: &mut Draw,
    key: impl Fn(&Peer) -> f64,
) -> Option<&'a Peer> {
    let loaded = |p: &Peer| known.score(p) * (1.0 + p.load()).powi(2);
    let compare = |a: &Peer, b: &Peer| {
        key(a)
            .total_cmp(&key(b))
            .then_with(|| loaded(a).total_cmp(&loaded(b)))
    };
    let best = ready.iter().copied().min_by(|a, b| compare(a, b))?;
    let mut equal: Vec<&Peer> = ready
        .iter()
        .copied()
        .filter(|p| compare(p, best) == Ordering::Equal)
        .collect();
    equal.sort_by_key(|p| p.id);
    equal.get(draw.below(equal.len() as u64) as usize).copied()
}

/// Several random numbers from one (splitmix64).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
