//! Requests that wait for a busy worker: bounded, fair between clients, and free until they run (docs/market.md).

use std::collections::{BTreeMap, BTreeSet};

use cocoon_ton::Address;
use cocoon_wire::codes;
use serde_json::json;

use super::core::{Phase, ProxyCore};
use super::place::Place;
use super::requests::Job;
use crate::link::LinkId;

/// Sample weight of the mean time that a slot is taken.
const WEIGHT: f64 = 0.1;
/// The shortest and longest time after which a refused client is asked to come back, seconds.
const RETRY_AFTER_S: (f64, f64) = (1.0, 60.0);

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Job>,
    bytes: usize,
    next: u64,
    /// Clients that wait: when each had its last turn, in turns, and how many of its requests wait.
    clients: BTreeMap<Address, (u64, usize)>,
    turn: u64,
    /// Something happened that may let a request run.
    pub changed: bool,
    mean_ms: f64,
    refused: u64,
    late: u64,
    /// Requests sent to another worker.
    pub retried: u64,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    fn of_client(&self, client: Address) -> usize {
        self.clients.get(&client).map_or(0, |(_, n)| *n)
    }

    fn put(&mut self, job: Job) {
        self.next += 1;
        self.bytes += job.query.len();
        // A client that was away does not get turns for that time.
        self.clients.entry(job.client).or_insert((self.turn, 0)).1 += 1;
        self.waiting.insert(self.next, job);
    }

    fn take(&mut self, number: u64) -> Option<Job> {
        let job = self.waiting.remove(&number)?;
        self.taken(&job);
        Some(job)
    }

    /// A request that is out of `waiting` does not come back.
    fn taken(&mut self, job: &Job) {
        self.bytes -= job.query.len();
        if let Some((_, count)) = self.clients.get_mut(&job.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&job.client);
            }
        }
    }

    /// Numbers in the order in which they may run: the client whose last turn is longest ago, then the oldest request.
    fn order(&self) -> Vec<u64> {
        let mut all: Vec<_> = self
            .waiting
            .iter()
            .map(|(n, j)| {
                let turn = self.clients.get(&j.client).map_or(0, |(turn, _)| *turn);
                (turn, j.started_ms, *n)
            })
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, _, n)| n).collect()
    }

    /// Notes how long a request held its slot.
    pub fn held_slot(&mut self, ms: u64) {
        let ms = ms as f64;
        self.mean_ms = if self.mean_ms == 0.0 {
            ms
        } else {
            self.mean_ms + (ms - self.mean_ms) * WEIGHT
        };
    }

    /// Figures for status pages.
    pub fn stats(&self) -> serde_json::Value {
        json!({
            "waiting": self.waiting.len(),
            "waiting_bytes": self.bytes,
            "clients": self.clients.len(),
            "refused": self.refused,
            "timed_out": self.late,
            "sent_to_another_worker": self.retried,
        })
    }
}

impl ProxyCore {
    /// Lets a request wait, or says why it cannot. Its reservation is made.
    pub(super) fn wait(&mut self, job: Job) {
        let s = &self.cfg.settings;
        let own = self.queue.of_client(job.client);
        let text = if own >= s.max_queue_per_client {
            Some(format!(
                "too many requests of this client: {own} wait already"
            ))
        } else if self.queue.len() >= s.max_queue
            || self.queue.bytes + job.query.len() > s.max_queue_bytes
        {
            Some(format!(
                "the queue is full: {} requests wait",
                self.queue.len()
            ))
        } else {
            None
        };
        match text {
            None => self.queue.put(job),
            Some(text) => {
                self.queue.refused += 1;
                let after = self.retry_after_s();
                self.give_up(job, codes::NOTREADY, &text, Some(after));
            }
        }
    }

    /// A request that has been sent once waits again, whatever the bounds: it was admitted before.
    pub(super) fn wait_again(&mut self, job: Job) {
        self.queue.put(job);
    }

    /// A guess of when there is room: the mean time of a request, for every round of slots that waits.
    fn retry_after_s(&self) -> u32 {
        let rounds = 1.0 + self.queue.len() as f64 / self.requests.len().max(1) as f64;
        let s = (self.queue.mean_ms / 1000.0 * rounds).ceil();
        s.clamp(RETRY_AFTER_S.0, RETRY_AFTER_S.1) as u32
    }

    /// Ends a request that does not run: nothing was used, nothing is booked.
    fn give_up(&mut self, job: Job, code: i32, text: &str, retry_after_s: Option<u32>) {
        self.release(&job);
        self.meter
            .refuse(self.now, crate::metrics::Outcome::of_code(code));
        let data = self.refusal(
            job.client_version,
            job.client_rid,
            code,
            text,
            retry_after_s,
        );
        self.send(job.client_link, data);
    }

    /// Sends what can run now.
    pub(super) fn pump(&mut self) {
        if !std::mem::take(&mut self.queue.changed) || self.queue.waiting.is_empty() {
            return;
        }
        if let Some(reason) = self.disabled.clone() {
            return self.refuse_queue(&format!("proxy is disabled: {reason}"));
        }
        if self.phase != Phase::Open {
            return;
        }
        let mut full = BTreeSet::new();
        loop {
            let mut sent = false;
            for number in self.queue.order() {
                let Some(model) = self.queue.waiting.get(&number).map(|j| j.model.clone()) else {
                    continue;
                };
                if full.contains(&model) {
                    continue;
                }
                if self.has_room(&model) == Some(false) {
                    full.insert(model);
                    continue;
                }
                let Some(job) = self.queue.waiting.remove(&number) else {
                    continue;
                };
                match self.place(&job) {
                    Place::Wait => {
                        self.queue.waiting.insert(number, job);
                    }
                    Place::Now(link, coefficient) => {
                        self.queue.turn += 1;
                        if let Some((last, _)) = self.queue.clients.get_mut(&job.client) {
                            *last = self.queue.turn;
                        }
                        self.queue.taken(&job);
                        self.forward(job, link, coefficient);
                        sent = true;
                        break;
                    }
                    Place::Nowhere(code, text) => {
                        self.queue.taken(&job);
                        self.give_up(job, code, &text, None);
                    }
                }
            }
            if !sent {
                return;
            }
        }
    }

    /// The caller left before its request ran.
    pub(super) fn leave_queue(&mut self, link: LinkId, client_rid: [u8; 32]) -> bool {
        let found = |j: &Job| j.client_link == link && j.client_rid == client_rid;
        let number = self
            .queue
            .waiting
            .iter()
            .find(|(_, j)| found(j))
            .map(|(n, _)| *n);
        let job = number.and_then(|n| self.queue.take(n));
        if let Some(job) = &job {
            self.release(job);
        }
        job.is_some()
    }

    /// Whether a request of this id waits.
    pub(super) fn is_waiting(&self, link: LinkId, client_rid: [u8; 32]) -> bool {
        let found = |j: &Job| j.client_link == link && j.client_rid == client_rid;
        self.queue.waiting.values().any(found)
    }

    /// A client's link is gone, and its requests with it.
    pub(super) fn drop_queue_of(&mut self, link: LinkId) {
        for number in self.numbers(|j| j.client_link == link) {
            if let Some(job) = self.queue.take(number) {
                self.release(&job);
            }
        }
    }

    /// Ends the requests whose time is over.
    pub(super) fn expire_queue(&mut self) {
        let now = self.now;
        for number in self.numbers(|j| now >= j.deadline_ms) {
            if let Some(job) = self.queue.take(number) {
                self.queue.late += 1;
                let text = "timeout in proxy: every worker was busy";
                self.give_up(job, codes::TIMEOUT, text, None);
            }
        }
    }

    /// Refuses everything that waits.
    pub(super) fn refuse_queue(&mut self, text: &str) {
        for number in self.numbers(|_| true) {
            if let Some(job) = self.queue.take(number) {
                self.give_up(job, codes::NOTREADY, text, Some(1));
            }
        }
    }

    fn numbers(&self, which: impl Fn(&Job) -> bool) -> Vec<u64> {
        let all = self.queue.waiting.iter();
        all.filter(|(_, j)| which(j)).map(|(n, _)| *n).collect()
    }
}
