//! The answer to "may we trust this?", with its reasons.

use std::fmt;

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at, in the words of the vendor's documents.
    pub field: &'static str,
    /// What the policy asks for.
    pub expected: String,
    /// What the evidence says.
    pub found: String,
    /// Whether the one satisfies the other.
    pub passed: bool,
}

/// All comparisons made for one piece of evidence. Nothing is left out after the first failure, so that a person sees
/// everything that has to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Verdict {
    checks: Vec<Check>,
    #[serde(skip)]
    transient: bool,
}

impl Verdict {
    /// Adds a comparison.
    pub fn check(
        &mut self,
        field: &'static str,
        passed: bool,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) {
        self.checks.push(Check {
            field,
            expected: expected.to_string(),
            found: found.to_string(),
            passed,
        });
    }

    /// Adds the comparisons of another verdict.
    pub fn extend(&mut self, other: Verdict) {
        self.checks.extend(other.checks);
        self.transient |= other.transient;
    }

    /// Notes that something needed for an acceptance is on its way.
    pub fn mark_transient(&mut self) {
        self.transient = true;
    }

    /// Whether another try may succeed without anybody changing a configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// Every comparison in the order it was made.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether everything passed. A verdict without a single comparison is a refusal: nothing was proved.
    #[must_use]
    pub fn accepted(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// The comparisons that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.passed {
            write!(f, "{}: {}", self.field, self.found)
        } else {
            write!(
                f,
                "{}: expected {}, found {}",
                self.field, self.expected, self.found
            )
        }
    }
}

/// The failures in one line, for logs and errors.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.accepted() {
            return f.write_str("accepted");
        }
        if self.checks.is_empty() {
            return f.write_str("refused: nothing was checked");
        }
        f.write_str("refused: ")?;
        for (index, check) in self.failures().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            fmt::Display::fmt(check, f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_checked_is_a_refusal() {
        assert!(!Verdict::default().accepted());
        assert_eq!(
            Verdict::default().to_string(),
            "refused: nothing was checked"
        );
    }

    #[test]
    fn one_failure_refuses_and_is_named() {
        let mut verdict = Verdict::default();
        verdict.check("A", true, 1, 1);
        assert!(verdict.accepted());
        verdict.check("B", false, 2, 3);
        verdict.check("C", false, "x", "y");
        assert!(!verdict.accepted());
        assert_eq!(
            verdict.to_string(),
            "refused: B: expected 2, found 3; C: expected x, found y"
        );
    }
}
