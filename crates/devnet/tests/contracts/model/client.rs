//! Client contract: contracts.md section 8.

use cocoon_ton::Address;
use cocoon_ton::abi::{
    ClientLedger, ClientRequestPayload, ClientState, ContractStatus, ProxyMessage, op,
};

use super::{
    Bits, COMMISSION, Call, Exit, Keep, MALFORMED, OWN_FLOOR, STORAGE, SWEEP, Sent, Verdict, Worth,
    ensure, excess, open, params_version,
};

/// Unlock time of a client whose deposit came back after it had been asked back (beside the ABI).
pub const NEVER: u32 = u32::MAX;
/// Unlock time of a client that a bounced refund opened again (beside the ABI).
pub const LONG_AGO: u32 = 1;

fn request(
    c: &ClientState,
    query_id: u64,
    payload: Option<ClientRequestPayload>,
    worth: Worth,
) -> Sent {
    let body = ProxyMessage::ClientRequest {
        query_id,
        owner: c.owner,
        ledger: ClientLedger {
            status: c.status,
            balance: c.balance,
            stake: c.stake,
            tokens_used: c.tokens_used,
            secret_hash: c.secret_hash,
        },
        payload,
    };
    Sent {
        to: c.proxy,
        bounce: true,
        worth,
        body: body.encode().unwrap(),
        optional: false,
    }
}

fn notify(
    c: &ClientState,
    call: &Call<'_>,
    query_id: u64,
    payload: Option<ClientRequestPayload>,
    receiver: Address,
) -> Verdict {
    Verdict::keeping(
        Keep::Exactly(call.keep(OWN_FLOOR)),
        vec![
            request(c, query_id, payload, Worth::Exactly(1)),
            excess(receiver, query_id),
        ],
    )
}

fn carry(
    c: &ClientState,
    call: &Call<'_>,
    query_id: u64,
    payload: ClientRequestPayload,
) -> Verdict {
    Verdict::keeping(
        Keep::Exactly(call.keep(OWN_FLOOR)),
        vec![request(c, query_id, Some(payload), Worth::Rest)],
    )
}

/// The common value checks for an amount.
fn values(call: &Call<'_>, amount: u128) -> Result<(), Exit> {
    ensure(amount + COMMISSION <= call.value, 1003)?;
    ensure(
        amount + COMMISSION + call.keep(OWN_FLOOR) <= call.balance,
        1001,
    )
}

fn charge(c: &mut ClientState, total: u64) {
    if total > c.tokens_used {
        let cost = u128::from(total - c.tokens_used) * c.params.price_per_token;
        c.balance = c.balance.saturating_sub(cost);
        c.tokens_used = total;
    }
}

pub fn receive(
    c: &mut ClientState,
    call: &Call<'_>,
    from: Address,
    op_code: u32,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    use ContractStatus::{Closed, Closing, Normal};
    let q = body.u64()?;
    let open_state = |c: &ClientState| ensure(c.status != Closed, 1006);
    match op_code {
        op::CLIENT_TOP_UP => {
            let coins = body.coins()?;
            let excess_to = body.address()?;
            body.end()?;
            open_state(c)?;
            values(call, coins)?;
            c.balance += coins;
            Ok(carry(
                c,
                call,
                q,
                ClientRequestPayload::TopUp { coins, excess_to },
            ))
        }
        op::CLIENT_CHANGE_SECRET_HASH_AND_TOP_UP => {
            let coins = body.coins()?;
            let secret = body.bytes()?;
            let excess_to = body.address()?;
            body.end()?;
            open_state(c)?;
            values(call, coins)?;
            ensure(from == c.owner, 1010)?;
            c.balance += coins;
            c.secret_hash = secret;
            Ok(carry(
                c,
                call,
                q,
                ClientRequestPayload::TopUp { coins, excess_to },
            ))
        }
        op::CLIENT_REGISTER => {
            let nonce = body.u64()?;
            let receiver = body.address()?;
            body.end()?;
            open_state(c)?;
            values(call, 0)?;
            ensure(from == c.owner, 1010)?;
            let payload = ClientRequestPayload::Register { nonce };
            Ok(notify(c, call, q, Some(payload), receiver))
        }
        op::CLIENT_CHANGE_SECRET_HASH => {
            let secret = body.bytes()?;
            let receiver = body.address()?;
            body.end()?;
            open_state(c)?;
            values(call, 0)?;
            ensure(from == c.owner, 1010)?;
            c.secret_hash = secret;
            Ok(notify(c, call, q, None, receiver))
        }
        op::CLIENT_INCREASE_STAKE => {
            let stake = body.coins()?;
            let receiver = body.address()?;
            body.end()?;
            open_state(c)?;
            values(call, 0)?;
            ensure(from == c.owner, 1010)?;
            ensure(stake > c.stake, 1003)?;
            c.stake = stake;
            Ok(notify(c, call, q, None, receiver))
        }
        op::CLIENT_WITHDRAW => {
            let excess_to = body.address()?;
            body.end()?;
            // Beside the ABI: also after a refund that ended the client came back.
            let reopened = c.status == Closing && c.unlock_time == LONG_AGO;
            ensure(c.status == Normal || reopened, 1006)?;
            values(call, 0)?;
            ensure(from == c.owner, 1009)?;
            ensure(c.balance > c.stake, 1001)?;
            let coins = c.balance - c.stake;
            c.balance = c.stake;
            Ok(carry(
                c,
                call,
                q,
                ClientRequestPayload::RefundGranted { coins, excess_to },
            ))
        }
        op::CLIENT_REQUEST_REFUND => {
            let excess_to = body.address()?;
            body.end()?;
            open_state(c)?;
            values(call, 0)?;
            ensure(from == c.owner, 1009)?;
            if c.status == Closing {
                ensure(c.unlock_time < call.now, 1011)?;
                let coins = std::mem::take(&mut c.balance);
                c.status = Closed;
                return Ok(carry(
                    c,
                    call,
                    q,
                    ClientRequestPayload::RefundForced { coins, excess_to },
                ));
            }
            params_version(&c.params)?;
            c.status = Closing;
            c.unlock_time = call.now + c.params.client_delay;
            if c.balance <= c.stake {
                return Ok(notify(c, call, q, None, excess_to));
            }
            let coins = c.balance - c.stake;
            c.balance = c.stake;
            Ok(carry(
                c,
                call,
                q,
                ClientRequestPayload::RefundGranted { coins, excess_to },
            ))
        }
        op::CLIENT_CHARGE | op::CLIENT_GRANT_REFUND => {
            let grant = op_code == op::CLIENT_GRANT_REFUND;
            let opened = open(body, op_code, q, &c.public_key)?;
            let mut tail = opened.tail();
            let total = tail.u64()?;
            let target = tail.address()?;
            tail.end()?;
            if grant {
                ensure(c.status != Closed || c.balance > 0, 1006)?;
            } else {
                open_state(c)?;
            }
            values(call, 0)?;
            ensure(
                total > c.tokens_used || grant && total == c.tokens_used,
                1000,
            )?;
            ensure(target == call.me, 1015)?;
            charge(c, total);
            if !grant {
                return Ok(notify(c, call, q, None, opened.receiver));
            }
            c.status = Closed;
            c.unlock_time = 0;
            let coins = std::mem::take(&mut c.balance);
            let excess_to = opened.receiver;
            // Beside the ABI: the contract's own coins stay, for the owner.
            Ok(carry(
                c,
                call,
                q,
                ClientRequestPayload::RefundGranted { coins, excess_to },
            ))
        }
        SWEEP => {
            ensure(c.status == Closed, 1006)?;
            body.end()?;
            Ok(Verdict::keeping(
                Keep::Exactly(STORAGE),
                vec![excess(c.owner, q)],
            ))
        }
        _ => Err(Exit(1012)),
    }
}

/// Beside the ABI: a deposit that came back leaves the ledger, a refund returns to it and opens what it had closed.
pub fn bounced(
    c: &mut ClientState,
    call: &Call<'_>,
    from: Address,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    if from != c.proxy {
        return Ok(Verdict::indifferent());
    }
    // Too short or in the old form: nothing can be learned from it.
    let Ok(0xffff_fffe) = body.u32() else {
        return Ok(Verdict::silent());
    };
    let original = body.cell()?;
    let mut request = Bits::new(&original);
    request.u32()?;
    let q = request.u64()?;
    request.cell()?;
    let order = request.cell()?;
    let mut order = Bits::new(&order);
    let kind = order.u32()?;
    let coins = order.coins()?;
    let receiver = order.address()?;
    match kind {
        op::CLIENT_REQUEST_TOP_UP => match c.balance.checked_sub(coins) {
            Some(left) => c.balance = left,
            // Part of it has been asked back or charged already: the client ends, and what comes back is no money.
            None => {
                c.balance = 0;
                c.status = ContractStatus::Closed;
                c.unlock_time = NEVER;
            }
        },
        op::CLIENT_REQUEST_REFUND_GRANTED | op::CLIENT_REQUEST_REFUND_FORCED
            if c.unlock_time == NEVER => {}
        op::CLIENT_REQUEST_REFUND_GRANTED | op::CLIENT_REQUEST_REFUND_FORCED => {
            c.balance += coins;
            if c.status == ContractStatus::Closed {
                c.status = ContractStatus::Closing;
                c.unlock_time = LONG_AGO;
            } else if c.unlock_time != LONG_AGO {
                c.status = ContractStatus::Normal;
                c.unlock_time = 0;
            }
        }
        _ => return Err(MALFORMED),
    }
    Ok(Verdict::keeping(
        Keep::AtMost(call.keep(OWN_FLOOR)),
        vec![excess(receiver, q)],
    ))
}
