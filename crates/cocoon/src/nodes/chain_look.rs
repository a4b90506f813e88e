//! How far the chain is, as one node sees it: its newest block and that block's age.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cocoon_ton::Chain;
use serde_json::{Value, json};

/// Between looks.
const EVERY: Duration = Duration::from_secs(5);
/// A chain that does not answer for this long cannot be reached.
const PATIENCE: Duration = Duration::from_secs(15);

/// The newest block that was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its number.
    pub seqno: u32,
    /// Its time, Unix seconds; 0 before the first look.
    pub utime: u32,
    /// When the last answer came, Unix seconds.
    pub looked_at: u64,
    /// Why the last look failed.
    pub trouble: Option<String>,
}

impl Seen {
    /// Seconds that the newest block is behind this machine's clock; `None` before the first look.
    pub fn lag_s(&self, now: u64) -> Option<i64> {
        let age = i64::try_from(now).ok()? - i64::from(self.utime);
        (self.utime != 0).then_some(age)
    }

    /// For `/jsonstats`.
    pub fn json(&self, now: u64) -> Value {
        json!({
            "block": self.seqno,
            "block_time": self.utime,
            "lag_seconds": self.lag_s(now),
            "looked_at": self.looked_at,
            "trouble": self.trouble,
        })
    }
}

/// Looks at a chain until it is dropped.
pub struct ChainLook {
    seen: Arc<Mutex<Seen>>,
    task: tokio::task::JoinHandle<()>,
}

impl ChainLook {
    /// Begins to look.
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let task = tokio::spawn(look(chain, seen.clone()));
        ChainLook { seen, task }
    }

    /// What was seen last.
    pub fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for ChainLook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(chain: Arc<dyn Chain>, seen: Arc<Mutex<Seen>>) {
    loop {
        let answer = tokio::time::timeout(PATIENCE, chain.network()).await;
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(Ok(network)) => {
                    *seen = Seen {
                        seqno: network.seqno,
                        utime: network.utime,
                        looked_at: unix_now(),
                        trouble: None,
                    }
                }
                Ok(Err(e)) => seen.trouble = Some(e.to_string()),
                Err(_) => seen.trouble = Some(format!("no answer within {} s", PATIENCE.as_secs())),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_known_after_the_first_look() {
        let mut seen = Seen::default();
        assert_eq!(seen.lag_s(1000), None);
        seen.utime = 990;
        assert_eq!(seen.lag_s(1000), Some(10));
        assert_eq!(seen.lag_s(980), Some(-10));
    }
}
