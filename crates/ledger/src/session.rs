//! Save numbers, sessions and state commits of a proxy: how a rolled-back or cloned database is noticed (5.6).

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The most commits sent and not yet seen on chain. One is sent at a time; the rest are those of earlier sessions
/// that ended before theirs was seen.
pub const MAX_PENDING_COMMITS: usize = 64;

/// How many sessions' last commits are remembered, to recognise them when the chain is read again.
pub const MAX_CONFIRMED_SESSIONS: usize = 64;

/// A random number drawn once per process life.
pub type SessionHash = [u8; 32];

/// The pair that a state commit carries on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateCommit {
    /// The save whose state the commit stands for.
    pub save_no: u32,
    /// The session that made it.
    pub session: SessionHash,
}

/// What a commit seen on chain says about our database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// We sent it: amounts saved up to this number may be signed.
    ///
    /// Pass `save_no` to [`CommitTracker::observed_commit`](crate::CommitTracker::observed_commit).
    Ours {
        /// The number of the save.
        save_no: u32,
    },
    /// A session this database never knew: a second instance runs with our wallet, or the database is a copy from
    /// before that session. Stop without signing anything.
    Foreign,
    /// A session we know, but a commit we did not store: the database was rolled back. Stop without signing anything.
    Unknown,
}

/// Why no commit or save can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Too many commits are on their way.
    #[error(
        "{MAX_PENDING_COMMITS} state commits are waiting to be seen on chain; check the wallet and the chain connection"
    )]
    TooManyPending,
    /// 2³² saves were made.
    #[error("save numbers are used up")]
    NumbersUsedUp,
}

/// The part of a proxy's config record that numbers its saves. Store it in the same transaction as each save.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCommits {
    save_no: u32,
    session: SessionHash,
    pending: VecDeque<StateCommit>,
    /// The newest commit seen of each session, oldest session first.
    confirmed: VecDeque<StateCommit>,
}

impl SessionCommits {
    /// The state of a new database.
    #[must_use]
    pub fn new(session: SessionHash) -> Self {
        Self {
            save_no: 0,
            session,
            pending: VecDeque::new(),
            confirmed: VecDeque::new(),
        }
    }

    /// The stored state after a restart, with a new session's hash.
    #[must_use]
    pub fn resumed(stored: Self, session: SessionHash) -> Self {
        Self { session, ..stored }
    }

    /// The number of the last save.
    #[must_use]
    pub fn save_no(&self) -> u32 {
        self.save_no
    }

    /// The hash of this session.
    #[must_use]
    pub fn session(&self) -> &SessionHash {
        &self.session
    }

    /// The commits that were sent and not seen.
    pub fn pending(&self) -> impl Iterator<Item = &StateCommit> {
        self.pending.iter()
    }

    /// True if a commit of this session is on its way; no other is to be sent then.
    #[must_use]
    pub fn awaits_commit(&self) -> bool {
        self.pending
            .iter()
            .any(|commit| commit.session == self.session)
    }

    /// True once a commit of this session was seen: connections may be accepted.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
            .iter()
            .any(|commit| commit.session == self.session)
    }

    /// The number for a save that begins now.
    pub fn begin_save(&mut self) -> Result<u32, SessionError> {
        self.save_no = self
            .save_no
            .checked_add(1)
            .ok_or(SessionError::NumbersUsedUp)?;
        Ok(self.save_no)
    }

    /// Notes a commit of the current save. Store this record before sending the commit: one that is seen and not
    /// stored reads as [`Verdict::Unknown`].
    pub fn begin_commit(&mut self) -> Result<StateCommit, SessionError> {
        if self.pending.len() >= MAX_PENDING_COMMITS {
            // The oldest commit of a session that is over: its wallet message expired long ago, as dozens of
            // sessions began since.
            let stale = self
                .pending
                .iter()
                .position(|commit| commit.session != self.session);
            let stale = stale.ok_or(SessionError::TooManyPending)?;
            self.pending.remove(stale);
        }
        let commit = StateCommit {
            save_no: self.save_no,
            session: self.session,
        };
        self.pending.push_back(commit);
        Ok(commit)
    }

    /// Judges a commit from our own wallet that was seen on chain. A commit may be seen again.
    pub fn observed(&mut self, commit: StateCommit) -> Verdict {
        let StateCommit { save_no, session } = commit;
        if self.pending.contains(&commit) {
            self.pending
                .retain(|other| other.session != session || other.save_no > save_no);
            self.confirm(commit);
            return Verdict::Ours { save_no };
        }
        if let Some(seen) = self.confirmed.iter().find(|seen| seen.session == session) {
            // Earlier commits of a session are read again after a restart from an older block.
            return if save_no <= seen.save_no {
                Verdict::Ours { save_no }
            } else {
                Verdict::Unknown
            };
        }
        let known =
            session == self.session || self.pending.iter().any(|other| other.session == session);
        if known {
            Verdict::Unknown
        } else {
            Verdict::Foreign
        }
    }

    fn confirm(&mut self, commit: StateCommit) {
        if let Some(seen) = self
            .confirmed
            .iter_mut()
            .find(|seen| seen.session == commit.session)
        {
            seen.save_no = seen.save_no.max(commit.save_no);
            return;
        }
        if self.confirmed.len() >= MAX_CONFIRMED_SESSIONS {
            self.confirmed.pop_front();
        }
        self.confirmed.push_back(commit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_commits_are_recognised_also_twice() {
        let mut commits = SessionCommits::new([1; 32]);
        commits.begin_save().unwrap();
        let first = commits.begin_commit().unwrap();
        assert!(commits.awaits_commit() && !commits.is_confirmed());
        assert_eq!(commits.observed(first), Verdict::Ours { save_no: 1 });
        assert_eq!(commits.observed(first), Verdict::Ours { save_no: 1 });
        assert!(!commits.awaits_commit() && commits.is_confirmed());
    }

    #[test]
    fn a_rolled_back_database_is_noticed() {
        let mut commits = SessionCommits::new([1; 32]);
        commits.begin_save().unwrap();
        let first = commits.begin_commit().unwrap();
        commits.observed(first);
        let backup = commits.clone();
        commits.begin_save().unwrap();
        let second = commits.begin_commit().unwrap();
        let mut rolled_back = SessionCommits::resumed(backup, [2; 32]);
        assert_eq!(rolled_back.observed(second), Verdict::Unknown);
    }

    #[test]
    fn a_clone_is_noticed() {
        let origin = SessionCommits::new([1; 32]);
        let mut left = SessionCommits::resumed(origin.clone(), [2; 32]);
        let mut right = SessionCommits::resumed(origin, [3; 32]);
        left.begin_save().unwrap();
        let commit = left.begin_commit().unwrap();
        assert_eq!(right.observed(commit), Verdict::Foreign);
    }

    #[test]
    fn a_commit_of_the_last_session_seen_after_a_restart_is_ours() {
        let mut commits = SessionCommits::new([1; 32]);
        commits.begin_save().unwrap();
        let commit = commits.begin_commit().unwrap();
        let text = serde_json::to_string(&commits).unwrap();
        let mut resumed = SessionCommits::resumed(serde_json::from_str(&text).unwrap(), [2; 32]);
        assert!(!resumed.awaits_commit());
        assert_eq!(resumed.observed(commit), Verdict::Ours { save_no: 1 });
        assert!(!resumed.is_confirmed());
    }

    #[test]
    fn pending_commits_are_bounded() {
        let mut commits = SessionCommits::new([1; 32]);
        for _ in 0..MAX_PENDING_COMMITS {
            commits.begin_commit().unwrap();
        }
        assert_eq!(commits.begin_commit(), Err(SessionError::TooManyPending));
    }
}
