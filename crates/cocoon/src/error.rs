//! The one error type of the program: what failed, what was expected and found, and what to do.

use std::fmt;

/// Exit code of a command that failed.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a command that was asked for in a wrong way: flags, configuration, addresses, amounts.
pub const EXIT_USAGE: u8 = 2;

/// A failure as the person at the terminal reads it. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    what: String,
    expected: Option<String>,
    found: Option<String>,
    hints: Vec<String>,
    code: u8,
}

/// Result of everything a command does.
pub type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// Something failed.
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            expected: None,
            found: None,
            hints: Vec::new(),
            code: EXIT_FAILURE,
        }
    }

    /// The command was asked for in a wrong way.
    pub fn usage(what: impl Into<String>) -> Self {
        Self {
            code: EXIT_USAGE,
            ..Self::new(what)
        }
    }

    /// What should have been there.
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = Some(text.into());
        self
    }

    /// What was there instead.
    pub fn found(mut self, text: impl Into<String>) -> Self {
        self.found = Some(text.into());
        self
    }

    /// What to do about it; may be given several times.
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hints.push(text.into());
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// The same as an object, for commands with `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "message": self.what,
            "expected": self.expected,
            "found": self.found,
            "hints": self.hints,
        }})
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        for (label, text) in [("expected", &self.expected), ("found", &self.found)] {
            if let Some(text) = text {
                write!(f, "\n  {label}: {text}")?;
            }
        }
        for hint in &self.hints {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CliError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_top_down() {
        let error = CliError::usage("cannot read the amount")
            .expected("a number of TON")
            .found("\"many\"")
            .hint("write 1.5");
        assert_eq!(
            error.to_string(),
            "error: cannot read the amount\n  expected: a number of TON\n  found: \"many\"\n  hint: write 1.5"
        );
        assert_eq!(error.code(), 2);
        assert_eq!(CliError::new("x").code(), 1);
    }
}
