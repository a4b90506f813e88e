//! What a proxy claimed towards one peer: three amounts that only grow (3.8, 4.3).

use serde::{Deserialize, Serialize};

use crate::units::AdjustedTokens;

/// A view of the three amounts, with signed ≤ db ≤ max always.
///
/// Keep it on disk: a worker that forgets it with its process cannot notice a proxy that forgot more (11 #12).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Claims {
    signed: AdjustedTokens,
    db: AdjustedTokens,
    max: AdjustedTokens,
}

/// The stored form, whose order is not trusted.
#[derive(Deserialize)]
struct Stored {
    signed: AdjustedTokens,
    db: AdjustedTokens,
    max: AdjustedTokens,
}

impl From<Stored> for Claims {
    fn from(stored: Stored) -> Self {
        Self::raised(stored.signed, stored.db, stored.max)
    }
}

/// A proxy went back behind what it had claimed before. The connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimViolation {
    /// The signed amount is lower.
    #[error(
        "tokens_committed_to_blockchain is too low: expected at least {expected}, found {found}"
    )]
    Signed {
        /// What was claimed before.
        expected: u64,
        /// What is claimed now.
        found: u64,
    },
    /// The saved amount is lower.
    #[error("tokens_committed_to_db is too low: expected at least {expected}, found {found}")]
    Db {
        /// What was claimed before.
        expected: u64,
        /// What is claimed now.
        found: u64,
    },
    /// The running total is lower.
    #[error("max_tokens is too low: expected at least {expected}, found {found}")]
    Max {
        /// What was claimed before.
        expected: u64,
        /// What is claimed now.
        found: u64,
    },
}

/// How a worker goes on after a balance comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComparisonStep {
    /// The views agree: send `worker.proxyHandshakeComplete`.
    Complete,
    /// The proxy knows a lower total: send the extended comparison, and after a good answer call
    /// [`Claims::accept_lower_max`].
    Extended,
}

/// How a proxy answers a worker's view (4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyComparison {
    /// Answer with error code 0.
    Agrees,
    /// The worker saw a higher total, lost in a crash before it was saved: answer with error code 1.
    WorkerAhead,
    /// The worker saw higher amounts that we had saved or signed: our database was rolled back, or the worker lies.
    /// Refuse the worker and raise an alarm.
    LostState,
}

impl Claims {
    /// A view from three amounts; the larger ones are raised to keep the order.
    ///
    /// A signed payment is proof of its amount whatever the proxy says of its database, so nothing is refused here.
    #[must_use]
    pub fn raised(signed: AdjustedTokens, db: AdjustedTokens, max: AdjustedTokens) -> Self {
        let db = db.max(signed);
        Self {
            signed,
            db,
            max: max.max(db),
        }
    }

    /// The amount of the newest valid signed payment.
    #[must_use]
    pub fn signed(&self) -> AdjustedTokens {
        self.signed
    }

    /// What the proxy says is saved.
    #[must_use]
    pub fn db(&self) -> AdjustedTokens {
        self.db
    }

    /// What the proxy says was used in all.
    #[must_use]
    pub fn max(&self) -> AdjustedTokens {
        self.max
    }

    /// The client's rule, and a worker's for status answers: higher amounts count, lower ones are ignored. True if
    /// something rose.
    pub fn merge(&mut self, heard: Claims) -> bool {
        let before = *self;
        self.signed = self.signed.max(heard.signed);
        self.db = self.db.max(heard.db);
        self.max = self.max.max(heard.max);
        *self != before
    }

    /// The worker's rule: a lower amount is a violation, and then nothing changes. True if something rose.
    pub fn advance(&mut self, heard: Claims) -> Result<bool, ClaimViolation> {
        self.check_saved(&heard)?;
        if heard.max < self.max {
            return Err(ClaimViolation::Max {
                expected: self.max.0,
                found: heard.max.0,
            });
        }
        Ok(self.merge(heard))
    }

    /// The worker's step on `worker.compareBalanceWithProxyResult`: whether the handshake completes, needs the
    /// extended comparison, or fails. The view is raised where that is sound.
    pub fn compare(
        &mut self,
        heard: Claims,
        error_code: i32,
    ) -> Result<ComparisonStep, ClaimViolation> {
        if error_code == 0 {
            self.advance(heard)?;
            return Ok(ComparisonStep::Complete);
        }
        self.check_saved(&heard)?;
        self.signed = heard.signed;
        self.db = heard.db;
        self.max = self.max.max(self.db);
        Ok(ComparisonStep::Extended)
    }

    /// After a good extended comparison: takes over the proxy's lower total, as that which it lost was never saved.
    /// The saved and signed amounts stay the floor.
    pub fn accept_lower_max(&mut self, max: AdjustedTokens) {
        self.max = max.max(self.db);
    }

    /// The proxy's answer to a worker's view; `self` is the proxy's own.
    #[must_use]
    pub fn judge_worker(&self, worker: &Claims) -> ProxyComparison {
        if worker.signed > self.signed || worker.db > self.db {
            ProxyComparison::LostState
        } else if worker.max > self.max {
            ProxyComparison::WorkerAhead
        } else {
            ProxyComparison::Agrees
        }
    }

    fn check_saved(&self, heard: &Claims) -> Result<(), ClaimViolation> {
        if heard.signed < self.signed {
            return Err(ClaimViolation::Signed {
                expected: self.signed.0,
                found: heard.signed.0,
            });
        }
        if heard.db < self.db {
            return Err(ClaimViolation::Db {
                expected: self.db.0,
                found: heard.db.0,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(signed: u64, db: u64, max: u64) -> Claims {
        Claims::raised(
            AdjustedTokens(signed),
            AdjustedTokens(db),
            AdjustedTokens(max),
        )
    }

    #[test]
    fn client_ignores_lower_and_worker_refuses_it() {
        let mut view = claims(5, 10, 20);
        assert!(!view.merge(claims(1, 2, 3)));
        assert_eq!(view, claims(5, 10, 20));
        assert!(matches!(
            view.advance(claims(4, 10, 20)),
            Err(ClaimViolation::Signed { .. })
        ));
        assert!(matches!(
            view.advance(claims(5, 9, 20)),
            Err(ClaimViolation::Db { .. })
        ));
        assert!(matches!(
            view.advance(claims(5, 10, 19)),
            Err(ClaimViolation::Max { .. })
        ));
        assert_eq!(view.advance(claims(5, 10, 20)), Ok(false));
        assert_eq!(view.advance(claims(6, 10, 20)), Ok(true));
    }

    #[test]
    fn a_worker_that_is_ahead_comes_back_after_the_extended_step() {
        let proxy = claims(5, 10, 15);
        let mut worker = claims(5, 10, 20);
        assert_eq!(proxy.judge_worker(&worker), ProxyComparison::WorkerAhead);
        assert_eq!(worker.compare(proxy, 1), Ok(ComparisonStep::Extended));
        worker.accept_lower_max(AdjustedTokens(15));
        assert_eq!(proxy.judge_worker(&worker), ProxyComparison::Agrees);
        assert_eq!(worker.compare(proxy, 0), Ok(ComparisonStep::Complete));
    }

    #[test]
    fn lost_state_is_told_apart() {
        assert_eq!(
            claims(5, 10, 15).judge_worker(&claims(6, 10, 15)),
            ProxyComparison::LostState
        );
        assert_eq!(
            claims(5, 10, 15).judge_worker(&claims(5, 11, 15)),
            ProxyComparison::LostState
        );
        let mut worker = claims(5, 10, 15);
        assert!(worker.compare(claims(4, 10, 15), 1).is_err());
        assert!(worker.compare(claims(5, 10, 14), 0).is_err());
    }

    #[test]
    fn stored_claims_keep_their_order() {
        let read: Claims = serde_json::from_str(r#"{"signed":9,"db":3,"max":1}"#).unwrap();
        assert_eq!(read, claims(9, 9, 9));
        let text = serde_json::to_string(&claims(1, 2, 3)).unwrap();
        assert_eq!(
            serde_json::from_str::<Claims>(&text).unwrap(),
            claims(1, 2, 3)
        );
    }
}
