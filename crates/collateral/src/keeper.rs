//! What to fetch when: a state machine over platform families, without clock, socket or random source.
//!
//! A family comes in by a peer who needs it or by what was found on disk. It is fetched again long before its collateral
//! ends, at least daily, because a disclosure must reach us although the old ratings still count. Failures are tried
//! again with growing pauses.

use std::collections::BTreeMap;

use cocoon_attest::evidence::collateral::{Edition, MAX_FAMILIES, Supply, Trouble};
use cocoon_attest::evidence::tdx::Platform;
use cocoon_attest::time::DAY;

/// Fetches under way at once.
pub const MAX_AT_ONCE: usize = 4;
/// Least pause between two fetches of a family that went well, in seconds.
const LEAST_REFRESH: u64 = 3_600;
/// First and longest pause after a failure, in seconds.
const RETRY: (u64, u64) = (5, 600);
/// Pause after the service said that it does not have it, in seconds.
const UNKNOWN_PAUSE: u64 = 3_600;

/// Where every known family stands.
#[derive(Debug, Default)]
pub struct Keeper {
    entries: BTreeMap<Platform, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// When it is to be fetched next, Unix seconds.
    due: u64,
    in_flight: bool,
    /// Failures in a row.
    failures: u32,
    trouble: Option<Trouble>,
    /// Whether there is collateral; what is only wanted may be forgotten.
    is_held: bool,
    /// When a peer needed it last, Unix seconds.
    wanted: u64,
}

/// A failed fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was asked for.
    pub url: String,
    /// What happened.
    pub reason: String,
    /// The service does not have it, so it need not be asked soon again.
    pub is_unknown: bool,
}

impl Keeper {
    /// Learns that collateral of this edition is held; `jitter` is a random number from 0 to 1.
    pub fn held(&mut self, now: u64, platform: &Platform, edition: &Edition, jitter: f64) {
        let entry = self
            .entries
            .entry(platform.clone())
            .or_insert(Entry::new(now));
        entry.is_held = true;
        entry.due = refresh_at(now, edition, jitter);
    }

    /// A peer needs it now.
    pub fn want(&mut self, now: u64, platform: &Platform) -> Supply {
        if !self.entries.contains_key(platform) && !self.has_room() {
            return Supply::Full;
        }
        let entry = self
            .entries
            .entry(platform.clone())
            .or_insert(Entry::new(now));
        entry.wanted = now;
        if let Some(trouble) = &entry.trouble {
            return Supply::Failing(Box::new(trouble.clone()));
        }
        if !entry.in_flight {
            entry.due = entry.due.min(now);
        }
        Supply::Coming
    }

    /// Fetches that shall begin now; each has to end with [`Self::fetched`] or [`Self::failed`].
    pub fn take_due(&mut self, now: u64) -> Vec<Platform> {
        let flying = self.entries.values().filter(|e| e.in_flight).count();
        let mut due: Vec<(&Platform, &mut Entry)> = self
            .entries
            .iter_mut()
            .filter(|(_, entry)| !entry.in_flight && entry.due <= now)
            .collect();
        // Peers that wait come before refreshes.
        due.sort_by_key(|(_, entry)| (entry.is_held, entry.due));
        due.truncate(MAX_AT_ONCE.saturating_sub(flying));
        due.into_iter()
            .map(|(platform, entry)| {
                entry.in_flight = true;
                platform.clone()
            })
            .collect()
    }

    /// When [`Self::take_due`] has something to say next, Unix seconds.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let waiting = self.entries.values().filter(|entry| !entry.in_flight);
        waiting.map(|entry| entry.due).min()
    }

    /// A fetch went well and this edition is held now.
    pub fn fetched(&mut self, now: u64, platform: &Platform, edition: &Edition, jitter: f64) {
        self.held(now, platform, edition, jitter);
        if let Some(entry) = self.entries.get_mut(platform) {
            (entry.in_flight, entry.failures, entry.trouble) = (false, 0, None);
        }
    }

    /// A fetch failed. Says whether it is the first failure in a row.
    pub fn failed(&mut self, now: u64, platform: &Platform, failure: Failure, jitter: f64) -> bool {
        let Some(entry) = self.entries.get_mut(platform) else {
            return false;
        };
        entry.in_flight = false;
        let doublings = entry.failures.min(16);
        entry.failures = entry.failures.saturating_add(1);
        let pause = match failure.is_unknown {
            true => UNKNOWN_PAUSE,
            false => (RETRY.0 << doublings).min(RETRY.1),
        };
        entry.due = now + pause / 2 + part(pause / 2, jitter);
        let since = entry.trouble.as_ref().map_or(now, |known| known.since);
        entry.trouble = Some(Trouble {
            since,
            url: failure.url,
            reason: failure.reason,
        });
        entry.failures == 1
    }

    /// What does not go well.
    pub fn troubles(&self) -> impl Iterator<Item = (&Platform, &Trouble)> {
        let entries = self.entries.iter();
        entries.filter_map(|(platform, entry)| Some((platform, entry.trouble.as_ref()?)))
    }

    /// Whether one more family can be known; forgets the one that was not wanted for longest and was never had.
    fn has_room(&mut self) -> bool {
        if self.entries.len() < MAX_FAMILIES {
            return true;
        }
        let idle = self
            .entries
            .iter()
            .filter(|(_, entry)| !entry.is_held && !entry.in_flight && entry.trouble.is_some())
            .min_by_key(|(_, entry)| entry.wanted)
            .map(|(platform, _)| platform.clone());
        match idle {
            Some(platform) => self.entries.remove(&platform).is_some(),
            None => false,
        }
    }
}

impl Entry {
    fn new(now: u64) -> Self {
        Entry {
            due: now,
            in_flight: false,
            failures: 0,
            trouble: None,
            is_held: false,
            wanted: now,
        }
    }
}

/// At half to two thirds of its life, within 20 to 24 hours, and not at once.
fn refresh_at(now: u64, edition: &Edition, jitter: f64) -> u64 {
    let life = edition.expires.saturating_sub(edition.issued);
    let by_life = edition.issued + life / 2 + part(life / 6, jitter);
    let daily = now + DAY * 5 / 6 + part(DAY / 6, jitter);
    // Where little is left, a pause may not reach the end.
    let left = edition.expires.saturating_sub(now);
    let least = LEAST_REFRESH.min(left / 4).max(60);
    by_life.min(daily).max(now + least)
}

fn part(seconds: u64, jitter: f64) -> u64 {
    (seconds as f64 * jitter.clamp(0.0, 1.0)) as u64
}
