//! A market in one deterministic simulation: many workers and callers, one proxy that chooses by different rules.
//!
//! `cocoon-market [SEED...]` prints a table of what each rule gives: how much is answered, at which price, how fast.
//! The workers differ in price, speed and reliability; nobody tells the proxy how. The oracle is told.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use cocoon_ledger::Coefficient;
use cocoon_ledger::choose::{Candidate, Choice, Policy, choose_worker};
use cocoon_ledger::health::{Circuit, Health, Outcome};
use cocoon_ledger::rank::{Peer, Ranked, Sort, rank};
use cocoon_ledger::stats::AverageTime;

const WORKERS: usize = 40;
/// Callers send for this long.
const SEND_MS: u64 = 300_000;
/// Nobody waits longer for a whole answer.
const DEADLINE_MS: u64 = 60_000;
const MAX_QUEUE: usize = 1024;
const RETRIES: u32 = 2;

/// Who chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// protocol.md 5.1: oldest connection first, no queue, no second try.
    Reference,
    /// Ours, from what it measures.
    Ours(Sort),
    /// Full knowledge of every worker's true speed and reliability, with our queue and tries.
    Oracle,
}

/// A worker as it is.
struct Worker {
    coefficient: Coefficient,
    limit: u32,
    first_byte_ms: f64,
    token_ms: f64,
    fails: f64,
    /// Answers nothing but errors in this time.
    outage: std::ops::Range<u64>,
    running: u32,
    health: Health,
    times: AverageTime,
    served: u64,
    busy_ms: u64,
}

#[derive(Clone)]
struct Request {
    sent_ms: u64,
    tokens: u64,
    max: Coefficient,
    tried: Vec<usize>,
    left: u32,
}

enum Event {
    Arrive,
    End {
        worker: usize,
        begun: u64,
        first: u64,
        ok: bool,
        request: Request,
    },
    Look,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
}

/// What a rule gave.
#[derive(Debug, Default, PartialEq)]
struct Report {
    asked: u64,
    answered: u64,
    refused: u64,
    failed: u64,
    late: u64,
    /// Mean coefficient of the tokens that were answered.
    price: f64,
    first_p50: u64,
    first_p99: u64,
    whole_p50: u64,
    whole_p99: u64,
    /// Share of all slots in use, while callers sent.
    utilisation: f64,
    /// Share of all answers that the busiest worker gave.
    busiest: f64,
}

struct Market {
    rule: Rule,
    now: u64,
    workers: Vec<Worker>,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    store: Vec<Option<Event>>,
    queue: VecDeque<Request>,
    /// Requests and workers are the same whatever rule chooses.
    world: Random,
    choices: Random,
    gap_ms: f64,
    report: Report,
    firsts: Vec<u64>,
    wholes: Vec<u64>,
    tokens: f64,
    paid: f64,
}

impl Market {
    /// `load` is the share of the workers' capacity that callers ask for.
    fn new(rule: Rule, seed: u64, load: f64) -> Self {
        let mut world = Random(seed);
        let workers: Vec<Worker> = (0..WORKERS)
            .map(|n| {
                let outage = if n % 10 == 3 {
                    let from = (world.unit() * SEND_MS as f64 * 0.5) as u64;
                    from..from + SEND_MS / 4
                } else {
                    0..0
                };
                Worker {
                    coefficient: Coefficient::new(world.between(500.0, 2500.0) as u32)
                        .unwrap_or(Coefficient::ONE),
                    limit: 2 + (world.next() % 7) as u32,
                    first_byte_ms: 80.0 * (world.unit() * 3.0).exp(),
                    token_ms: 6.0 * (world.unit() * 2.0).exp(),
                    fails: if n % 10 == 7 {
                        0.5
                    } else {
                        world.unit() * 0.02
                    },
                    outage,
                    running: 0,
                    health: Health::new(),
                    times: AverageTime::new(),
                    served: 0,
                    busy_ms: 0,
                }
            })
            .collect();
        // Answers of 200 tokens on average, at half load.
        let capacity: f64 = workers
            .iter()
            .map(|w| f64::from(w.limit) / ((w.first_byte_ms + 200.0 * w.token_ms) * 1.5))
            .sum();
        let mut market = Market {
            rule,
            now: 0,
            workers,
            events: BinaryHeap::new(),
            store: Vec::new(),
            queue: VecDeque::new(),
            choices: Random(seed ^ 0x5eed),
            world,
            gap_ms: 1.0 / (capacity * load),
            report: Report::default(),
            firsts: Vec::new(),
            wholes: Vec::new(),
            tokens: 0.0,
            paid: 0.0,
        };
        market.at(0, Event::Arrive);
        market.at(0, Event::Look);
        market
    }

    fn at(&mut self, when: u64, event: Event) {
        let n = self.store.len();
        self.store.push(Some(event));
        self.events.push(Reverse((when, n as u64, n)));
    }

    fn run(mut self) -> Report {
        while let Some(Reverse((when, _, n))) = self.events.pop() {
            self.now = when;
            match self.store[n].take() {
                Some(Event::Arrive) => self.on_arrive(),
                Some(Event::End {
                    worker,
                    begun,
                    first,
                    ok,
                    request,
                }) => self.on_end(worker, begun, first, ok, request),
                Some(Event::Look) => {
                    self.pump();
                    if self.now < SEND_MS || !self.queue.is_empty() {
                        self.at(self.now + 100, Event::Look);
                    }
                }
                None => {}
            }
        }
        let slots: f64 = self.workers.iter().map(|w| f64::from(w.limit)).sum();
        let busy: f64 = self.workers.iter().map(|w| w.busy_ms as f64).sum();
        let most = self.workers.iter().map(|w| w.served).max().unwrap_or(0);
        let mut r = self.report;
        r.utilisation = busy / (slots * SEND_MS as f64);
        r.busiest = most as f64 / r.answered.max(1) as f64;
        r.price = self.paid / self.tokens.max(1.0);
        (r.first_p50, r.first_p99) = percentiles(&mut self.firsts);
        (r.whole_p50, r.whole_p99) = percentiles(&mut self.wholes);
        r
    }

    fn on_arrive(&mut self) {
        let max = [900, 1500, 4000, 4000][(self.world.next() % 4) as usize];
        let request = Request {
            sent_ms: self.now,
            tokens: self.world.between(20.0, 380.0) as u64,
            max: Coefficient::new(max).unwrap_or(Coefficient::ONE),
            tried: Vec::new(),
            left: if self.rule == Rule::Reference {
                0
            } else {
                RETRIES
            },
        };
        self.report.asked += 1;
        let gap = -self.gap_ms * (1.0 - self.world.unit()).ln();
        let next = self.now + gap.ceil() as u64;
        if next < SEND_MS {
            self.at(next, Event::Arrive);
        }
        self.place(request, true);
    }

    /// Sends a request, lets it wait, or refuses it. False if it waits.
    fn place(&mut self, request: Request, new: bool) -> bool {
        match self.choose(&request) {
            Ranked::Peer(n) => {
                self.start(n as usize, request);
                true
            }
            Ranked::Busy if !new || self.queue.len() < MAX_QUEUE => {
                self.queue.push_back(request);
                false
            }
            _ if new => {
                self.report.refused += 1;
                true
            }
            _ => {
                self.report.failed += 1;
                true
            }
        }
    }

    fn choose(&mut self, r: &Request) -> Ranked {
        let now_s = self.now as f64 / 1000.0;
        if self.rule == Rule::Reference {
            let all: Vec<Candidate> = self
                .workers
                .iter()
                .enumerate()
                .map(|(n, w)| Candidate {
                    id: n as u64,
                    enabled: true,
                    running: w.running,
                    limit: w.limit,
                    coefficient: w.coefficient,
                    average_time_s: w.times.reference(now_s),
                    recent_failures: 0.0,
                })
                .collect();
            return match choose_worker(&all, r.max, Policy::Reference) {
                Choice::Worker(n) => Ranked::Peer(n),
                Choice::TooExpensive(c) => Ranked::TooExpensive(c),
                Choice::NoneReady => Ranked::NoneReady,
            };
        }
        let peers: Vec<Peer> = self
            .workers
            .iter()
            .enumerate()
            .filter(|(n, _)| !r.tried.contains(n))
            .map(|(n, w)| {
                let measured = Peer::measured(n as u64, w.coefficient, &w.health, self.now);
                let peer = match self.rule {
                    Rule::Oracle => Peer {
                        first_byte_ms: Some(w.first_byte_ms),
                        token_ms: Some(w.token_ms),
                        error_rate: w.fails,
                        seen: u32::MAX,
                        circuit: Circuit::Closed,
                        // A worker that is out of order is known to be.
                        enabled: !w.outage.contains(&self.now),
                        ..measured
                    },
                    _ => measured,
                };
                Peer {
                    running: w.running,
                    limit: w.limit,
                    ..peer
                }
            })
            .collect();
        let sort = match self.rule {
            Rule::Ours(sort) => sort,
            _ => Sort::Balanced,
        };
        rank(&peers, r.max, sort, self.choices.next())
    }

    fn start(&mut self, n: usize, request: Request) {
        let draw = self.choices.unit();
        let w = &mut self.workers[n];
        w.running += 1;
        // An engine shares its speed among what runs.
        let slow = 1.0 + f64::from(w.running) / f64::from(w.limit);
        let first = (w.first_byte_ms * slow) as u64;
        let broken = w.outage.contains(&self.now);
        let ok = !broken && draw >= w.fails;
        let took = if ok {
            first + (request.tokens as f64 * w.token_ms * slow) as u64
        } else {
            first.min(200)
        };
        let (begun, end) = (self.now, self.now + took.max(1));
        w.busy_ms += took;
        self.at(
            end,
            Event::End {
                worker: n,
                begun,
                first,
                ok,
                request,
            },
        );
    }

    fn on_end(&mut self, n: usize, begun: u64, first: u64, ok: bool, mut request: Request) {
        let draw = self.choices.next();
        let took = self.now - begun;
        let w = &mut self.workers[n];
        w.running -= 1;
        w.times.add(self.now as f64 / 1000.0, took as f64 / 1000.0);
        if ok {
            w.served += 1;
            w.health.first_byte(first);
            let outcome = Outcome::Served {
                tokens: request.tokens,
                streamed_ms: took - first,
            };
            w.health.ended(self.now, outcome, draw);
            self.tokens += request.tokens as f64;
            self.paid += request.tokens as f64 * f64::from(w.coefficient.thousandths()) / 1000.0;
            self.report.answered += 1;
            self.firsts.push(begun + first - request.sent_ms);
            self.wholes.push(self.now - request.sent_ms);
        } else {
            w.health.ended(self.now, Outcome::Failed, draw);
            if request.left > 0 {
                request.left -= 1;
                request.tried.push(n);
                self.place(request, false);
            } else {
                self.report.failed += 1;
            }
        }
        self.pump();
    }

    fn pump(&mut self) {
        for _ in 0..self.queue.len() {
            if self.workers.iter().all(|w| w.running >= w.limit) {
                return;
            }
            let Some(request) = self.queue.pop_front() else {
                return;
            };
            if self.now - request.sent_ms > DEADLINE_MS {
                self.report.late += 1;
            } else {
                self.place(request, false);
            }
        }
    }
}

fn percentiles(values: &mut [u64]) -> (u64, u64) {
    values.sort_unstable();
    let at = |p: usize| values.get(values.len() * p / 100).copied().unwrap_or(0);
    (at(50), at(99))
}

/// Shares of the capacity that callers ask for: quiet, busy, more than there is of what is cheap.
const LOADS: [f64; 3] = [0.2, 0.4, 0.6];

const RULES: [(&str, Rule); 6] = [
    ("reference", Rule::Reference),
    ("ours", Rule::Ours(Sort::Balanced)),
    ("ours, by price", Rule::Ours(Sort::Price)),
    ("ours, by latency", Rule::Ours(Sort::Latency)),
    ("ours, by throughput", Rule::Ours(Sort::Throughput)),
    ("oracle", Rule::Oracle),
];

fn main() {
    let seeds: Vec<u64> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let seeds = if seeds.is_empty() {
        vec![1, 2, 3]
    } else {
        seeds
    };
    println!(
        "| seed | load | rule | answered | refused | failed | late | price | first byte p50 / p99, ms | whole p50 / p99, s | slots in use | busiest worker |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for seed in seeds {
        for load in LOADS {
            for (name, rule) in RULES {
                let r = Market::new(rule, seed, load).run();
                let share = |n: u64| 100.0 * n as f64 / r.asked.max(1) as f64;
                println!(
                    "| {seed} | {load} | {name} | {:.2} % | {:.2} % | {:.2} % | {:.2} % | {:.2} | {} / {} | {:.1} / {:.1} | {:.0} % | {:.0} % |",
                    share(r.answered),
                    share(r.refused),
                    share(r.failed),
                    share(r.late),
                    r.price,
                    r.first_p50,
                    r.first_p99,
                    r.whole_p50 as f64 / 1000.0,
                    r.whole_p99 as f64 / 1000.0,
                    100.0 * r.utilisation,
                    100.0 * r.busiest,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rule: Rule, seed: u64, load: f64) -> Report {
        Market::new(rule, seed, load).run()
    }

    #[test]
    fn a_seed_gives_the_same_market() {
        let ours = Rule::Ours(Sort::Balanced);
        assert_eq!(run(ours, 5, 0.5), run(ours, 5, 0.5));
        assert_ne!(run(ours, 5, 0.5), run(ours, 6, 0.5));
    }

    #[test]
    fn everything_asked_ends_in_one_way() {
        for (name, rule) in RULES {
            let r = run(rule, 3, 0.6);
            assert_eq!(
                r.asked,
                r.answered + r.refused + r.failed + r.late,
                "{name}"
            );
        }
    }

    /// What SPECIFICATION.md promises of the choice of a worker.
    #[test]
    fn ours_beats_the_reference_and_comes_near_the_oracle() {
        for (seed, load) in [(1, 0.2), (2, 0.4)] {
            let reference = run(Rule::Reference, seed, load);
            let ours = run(Rule::Ours(Sort::Balanced), seed, load);
            let oracle = run(Rule::Oracle, seed, load);
            let answered = |r: &Report| r.answered as f64 / r.asked as f64;
            assert!(answered(&ours) > 0.995, "{ours:?}");
            assert!(answered(&reference) < 0.95, "{reference:?}");
            assert!(ours.price < reference.price, "{ours:?} {reference:?}");
            assert!(
                ours.first_p50 < reference.first_p50,
                "{ours:?} {reference:?}"
            );
            assert!(ours.price < oracle.price * 1.15, "{ours:?} {oracle:?}");
            assert!(
                (ours.first_p50 as f64) < oracle.first_p50 as f64 * 1.15,
                "{ours:?} {oracle:?}"
            );
            assert!(
                (ours.first_p99 as f64) < oracle.first_p99 as f64 * 1.5,
                "{ours:?} {oracle:?}"
            );
            assert!(ours.busiest < 0.25, "no worker gets everything: {ours:?}");
        }
    }

    #[test]
    fn every_order_gives_what_it_names() {
        let by = |sort| run(Rule::Ours(sort), 1, 0.2);
        let balanced = by(Sort::Balanced);
        assert!(by(Sort::Price).price < balanced.price * 0.9);
        assert!((by(Sort::Latency).first_p50 as f64) < balanced.first_p50 as f64 * 0.9);
        assert!((by(Sort::Throughput).whole_p50 as f64) < balanced.whole_p50 as f64 * 0.95);
    }
}
