//! What can be wrong with a cell of the contracts' ABI.

use crate::boc::BocError;

/// Why a cell could not be read or built.
///
/// Reading errors are the sender's fault, building errors the caller's; a retry never helps.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AbiError {
    /// The cell ends before a field.
    #[error("the cell ends before the field {field:?}, or the field is malformed: {source}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What the cell library said.
        source: tycho_types::error::Error,
    },
    /// Something follows the last field.
    #[error("{bits} bits and {refs} references follow where {what} should end")]
    Leftover {
        /// What was read.
        what: &'static str,
        /// Bits left.
        bits: u16,
        /// References left.
        refs: u8,
    },
    /// An ordinary cell was expected.
    #[error("an ordinary cell was expected for {what}, found a special one")]
    ExoticCell {
        /// What was to be read.
        what: &'static str,
    },
    /// Not a standard internal address.
    #[error("the field {field:?} is not a standard address (tag 100 expected)")]
    NotStandardAddress {
        /// Name of the field.
        field: &'static str,
    },
    /// An op that this contract does not have.
    #[error("unknown op 0x{op:08x} for {what}")]
    UnknownOp {
        /// What was to be read.
        what: &'static str,
        /// The op found.
        op: u32,
    },
    /// A number outside the values the field can have.
    #[error("the field {field:?} cannot be {found}: expected {expected}")]
    Value {
        /// Name of the field.
        field: &'static str,
        /// What was found.
        found: u128,
        /// What is allowed.
        expected: &'static str,
    },
    /// A params cell of a structure version that is not known.
    #[error("params structure version {found} is not known: expected 0 to 4")]
    StructVersion {
        /// Version found.
        found: u8,
    },
    /// Op or query id of an envelope differs from the signed payload in it.
    #[error("{field} of the envelope differs from the signed one")]
    EnvelopeMismatch {
        /// Which of the two.
        field: &'static str,
    },
    /// A dictionary with more entries than anyone needs.
    #[error("the dictionary {field:?} has more than {limit} entries")]
    TooManyEntries {
        /// Name of the field.
        field: &'static str,
        /// Entries accepted.
        limit: usize,
    },
    /// A text that does not fit.
    #[error("the text {field:?} has {found} bytes: at most {limit} fit")]
    TextTooLong {
        /// Name of the field.
        field: &'static str,
        /// Bytes found.
        found: usize,
        /// Bytes that fit.
        limit: usize,
    },
    /// The params hold no code for the contract to be deployed.
    #[error("the params hold no {contract} code: use the full or the proxy form")]
    MissingCode {
        /// Which contract.
        contract: &'static str,
    },
    /// The fields do not fit into a cell.
    #[error("{what} does not fit into a cell: {source}")]
    DoesNotFit {
        /// What was to be built.
        what: &'static str,
        /// What the cell library said.
        source: tycho_types::error::Error,
    },
    /// Bytes that are no bag of cells.
    #[error(transparent)]
    Boc(#[from] BocError),
}
