//! What a caller wants of the worker, as it travels and as the proxy uses it (docs/market.md).

use cocoon_ledger::rank::Sort;
use cocoon_ton::Address;

/// Workers that one request may name in each list: enough for a choice, and cheap to compare.
pub const MAX_NAMED: usize = 64;
/// Further workers that a request may ask to be tried.
pub const MAX_RETRIES: u32 = 5;
/// Further workers that are tried when the caller says nothing.
pub const DEFAULT_RETRIES: u32 = 2;

/// Wishes about the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What matters most.
    pub sort: Sort,
    /// Owners of the only workers that may answer; empty allows all.
    pub allow: Vec<Address>,
    /// Owners of workers that must not answer.
    pub exclude: Vec<Address>,
    /// Further workers, and at the client further proxies, to be tried before the first byte.
    pub retries: Option<u32>,
}

/// [`Wishes`] as they travel in protocol version 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WireWishes {
    /// [`Sort::to_wire`].
    pub sort: i32,
    /// Negative leaves it to the proxy.
    pub retries: i32,
    /// Addresses as text.
    pub allow: Vec<String>,
    /// Addresses as text.
    pub exclude: Vec<String>,
}

impl Wishes {
    /// Nothing special is wanted.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Only a proxy that understands version 3 can keep these; the others are wishes that may be lost.
    #[must_use]
    pub fn must_be_kept(&self) -> bool {
        !self.allow.is_empty() || !self.exclude.is_empty()
    }

    /// Whether this owner's workers may answer.
    #[must_use]
    pub fn accepts(&self, owner: &Address) -> bool {
        (self.allow.is_empty() || self.allow.contains(owner)) && !self.exclude.contains(owner)
    }

    /// Further tries before the first byte.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(DEFAULT_RETRIES).min(MAX_RETRIES)
    }

    /// For the wire.
    #[must_use]
    pub fn to_wire(&self) -> WireWishes {
        let texts = |list: &[Address]| list.iter().map(ToString::to_string).collect();
        WireWishes {
            sort: self.sort.to_wire(),
            retries: self
                .retries
                .map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX)),
            allow: texts(&self.allow),
            exclude: texts(&self.exclude),
        }
    }

    /// Reads what a client sent.
    pub fn from_wire(w: &WireWishes) -> Result<Self, String> {
        Ok(Self {
            sort: Sort::from_wire(w.sort),
            allow: addresses("allow", &w.allow)?,
            exclude: addresses("exclude", &w.exclude)?,
            retries: u32::try_from(w.retries).ok().map(|n| n.min(MAX_RETRIES)),
        })
    }
}

/// Reads addresses in either text form; flags do not matter.
pub fn addresses<T: AsRef<str>>(what: &str, texts: &[T]) -> Result<Vec<Address>, String> {
    if texts.len() > MAX_NAMED {
        return Err(format!(
            "\"{what}\" names {} workers, at most {MAX_NAMED} are possible",
            texts.len()
        ));
    }
    texts
        .iter()
        .map(|t| {
            let t = t.as_ref().trim();
            Address::parse(t).map(|p| p.address).map_err(|_| {
                let shown: String = t.chars().take(60).collect();
                format!("\"{what}\": {shown:?} is not an address; GET /v1/models shows the owners of the workers")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_travel_unchanged() {
        let wishes = Wishes {
            sort: Sort::Latency,
            allow: vec![Address::basechain([1; 32])],
            exclude: vec![Address::basechain([2; 32]), Address::basechain([3; 32])],
            retries: Some(0),
        };
        assert_eq!(Wishes::from_wire(&wishes.to_wire()).unwrap(), wishes);
        let none = Wishes::default();
        assert_eq!(Wishes::from_wire(&none.to_wire()).unwrap(), none);
        assert!(wishes.accepts(&Address::basechain([1; 32])));
        assert!(!wishes.accepts(&Address::basechain([4; 32])));
        assert!(none.accepts(&Address::basechain([4; 32])));
    }

    #[test]
    fn hostile_wishes_are_refused() {
        let wire = |allow: Vec<String>| WireWishes {
            sort: 77,
            retries: i32::MAX,
            allow,
            exclude: Vec::new(),
        };
        let read = Wishes::from_wire(&wire(Vec::new())).unwrap();
        assert_eq!((read.sort, read.retries()), (Sort::Balanced, MAX_RETRIES));
        assert!(Wishes::from_wire(&wire(vec!["x".into()])).is_err());
        let many = vec![Address::basechain([1; 32]).to_string(); MAX_NAMED + 1];
        assert!(Wishes::from_wire(&wire(many)).is_err());
    }
}
