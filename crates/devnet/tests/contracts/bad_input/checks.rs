//! What a row of the table is, and the checks that several operations share.

use cocoon_ton::abi::ContractStatus;

use super::call::Call;
use super::parties::{Net, SEED, TOKENS, TON, party};

/// A way to spoil a good call, and the exit code that follows.
pub struct Check {
    pub name: &'static str,
    pub code: i32,
    pub spoil: fn(&mut Call),
}

/// An operation: a call that is accepted, and its checks in the order of sections 6 to 10. Of two things that are
/// wrong, the earlier one decides.
pub struct Row {
    pub name: &'static str,
    pub call: fn(&Net) -> Call,
    pub checks: &'static [Check],
}

pub const fn check(name: &'static str, code: i32, spoil: fn(&mut Call)) -> Check {
    Check { name, code, spoil }
}

/// Sweeping a closed client or worker: ours, beside the ABI.
pub const SWEEP: u32 = 0x4d7a_36c8;
/// Coins of the contract under test before the message.
pub const OWN: u128 = TON;
/// What top-ups and stakes are about.
pub const AMOUNT: u128 = 5 * TON;
/// Enough for an operation, and not enough to lift an empty client to its floor beside it.
pub const VALUE: u128 = TON * 3 / 20;
/// The least that most operations take.
pub const COMMISSION: u128 = TON / 10;

pub const FORM: Check = check("a bit follows the body", 9, |c| c.extra_bits = 1);
pub const STRANGER: fn(&mut Call) = |c| c.from = party(0xe0);
pub const OWNER: Check = check("not the owner", 1010, STRANGER);
pub const FUNDS_OWNER: Check = check("not the owner", 1009, STRANGER);
pub const CLOSED: Check = check("closed", 1006, |c| {
    *c.state.status() = ContractStatus::Closed;
});
pub const CLOSING: Check = check("closing", 1006, |c| {
    *c.state.status() = ContractStatus::Closing;
});
pub const NORMAL: Check = check("normal", 1006, |c| {
    *c.state.status() = ContractStatus::Normal;
});
pub const LOW_VALUE: Check = check("a nanoTON below the commission", 1003, |c| {
    c.value = COMMISSION - 1;
});
pub const LOW_VALUE_AND_AMOUNT: Check = check("a nanoTON below amount and commission", 1003, |c| {
    c.value = AMOUNT + COMMISSION - 1;
});
pub const NOT_ABOVE: Check = check("exactly the commission", 1003, |c| c.value = COMMISSION);
pub const POOR: Check = check("nothing of its own", 1001, |c| c.own = 0);
/// Ours: a request that is too poor to come back would be lost on its way.
pub const TOO_POOR_TO_RETURN: Check = check("nothing of its own", 1003, |c| c.own = 0);
pub const SIGNATURE: Check = check("signed with another key", 1007, |c| {
    c.signed().seed = SEED + 1;
});
pub const ENVELOPE_OP: Check = check("signed for another operation", 1005, |c| {
    c.signed().inner_op ^= 1;
});
pub const ENVELOPE_ID: Check = check("signed for another query id", 1005, |c| {
    c.signed().inner_query_id ^= 1;
});
pub const TAIL: Check = check("a signed bit follows the payload", 9, |c| {
    c.signed().extra_bits = 1;
});
pub const TARGET: Check = check("signed for another contract", 1015, |c| {
    c.signed().target = party(0x77);
});
pub const STALE: Check = check("no more tokens than before", 1000, |c| {
    c.signed().tokens = Some(TOKENS);
});
pub const FEWER: Check = check("fewer tokens than before", 1000, |c| {
    c.signed().tokens = Some(TOKENS - 1);
});
pub const SENDER: Check = check("from another contract", 1014, STRANGER);
pub const WORKCHAIN: Check = check("from the same hash in the masterchain", 1014, |c| {
    c.from.workchain = -1;
});
pub const PAYLOAD_OP: Check = check("unknown payload", 1012, |c| {
    c.request().payload_op = 0xdead_beef;
});
pub const PAYLOAD_FORM: Check = check("a bit follows the payload", 9, |c| {
    c.request().payload_extra_bits = 1;
});
/// Fewer coins than any amount here, but enough to keep the account alive.
pub const INSOLVENT: Check = check("not enough coins", 5, |c| c.own = TON / 10);
