//! What an operator may ask of a running node beside what it does by itself (protocol.md 8.1).

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Nobody of that name is in the books.
    #[error("{0}")]
    Unknown(String),
    /// It makes no sense now.
    #[error("{0}")]
    Impossible(String),
}

impl NotDone {
    /// There is no chain to do it on.
    pub(crate) fn no_chain() -> Self {
        NotDone::Impossible(
            "there is no chain: in a static network nothing is deposited, charged or paid".into(),
        )
    }

    /// A message is under way.
    pub(crate) fn busy() -> Self {
        NotDone::Impossible(
            "a message to this contract is under way; try again when it has arrived".into(),
        )
    }
}

/// What was done, in words, or why nothing was.
pub type Done = Result<String, NotDone>;
