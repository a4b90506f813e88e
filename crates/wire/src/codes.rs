//! Error codes in `tcp.queryError` and in error answers (`spec/protocol.md`, 1.8).

/// Errors without a code: TL parse errors and addresses that do not parse.
pub const NONE: i32 = 0;
/// Unexpected internal failure.
pub const FAILURE: i32 = 601;
/// The request is refused.
pub const ERROR: i32 = 602;
/// Unused on the wire.
pub const WARNING: i32 = 603;
/// The peer broke the protocol, or the request is invalid.
pub const PROTOVIOLATION: i32 = 621;
/// Temporary: not connected, no worker, closing, disabled. A retry makes sense.
pub const NOTREADY: i32 = 651;
/// Time ran out.
pub const TIMEOUT: i32 = 652;
/// Connection destroyed or shutdown.
pub const CANCELLED: i32 = 653;

/// The name of a code in the specification.
pub fn name(code: i32) -> &'static str {
    match code {
        NONE => "none",
        FAILURE => "failure",
        ERROR => "error",
        WARNING => "warning",
        PROTOVIOLATION => "protoviolation",
        NOTREADY => "notready",
        TIMEOUT => "timeout",
        CANCELLED => "cancelled",
        _ => "unknown",
    }
}
