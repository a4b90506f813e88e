//! Worker contract: contracts.md section 9.

use cocoon_ton::Address;
use cocoon_ton::abi::{ContractStatus, ProxyMessage, WorkerRequestPayload, WorkerState, op};

use super::{
    Bits, COMMISSION, Call, Exit, Keep, OWN_FLOOR, RANGE, STORAGE, SWEEP, Sent, Verdict, Worth,
    ensure, excess, open, params_version,
};

fn request(
    w: &WorkerState,
    query_id: u64,
    payload: Option<WorkerRequestPayload>,
    worth: Worth,
) -> Sent {
    let body = ProxyMessage::WorkerRequest {
        query_id,
        owner: w.owner,
        status: w.status,
        tokens: w.tokens_paid,
        payload,
    };
    Sent {
        to: w.proxy,
        bounce: true,
        worth,
        body: body.encode().unwrap(),
        optional: false,
    }
}

pub fn receive(
    w: &mut WorkerState,
    call: &Call<'_>,
    op_code: u32,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    let q = body.u64()?;
    if w.status == ContractStatus::Closed {
        ensure(op_code == SWEEP, 1006)?;
        body.end()?;
        return Ok(Verdict::keeping(
            Keep::Exactly(STORAGE),
            vec![excess(w.owner, q)],
        ));
    }
    match op_code {
        op::WORKER_PAYOUT | op::WORKER_LAST_PAYOUT => {
            let last = op_code == op::WORKER_LAST_PAYOUT;
            let opened = open(body, op_code, q, &w.public_key)?;
            let mut tail = opened.tail();
            let total = tail.u64()?;
            let target = tail.address()?;
            tail.end()?;
            ensure(call.value > COMMISSION, 1003)?;
            ensure(target == call.me, 1015)?;
            ensure(
                total > w.tokens_paid || last && total == w.tokens_paid,
                1000,
            )?;
            let fresh = u128::from(total - w.tokens_paid);
            w.tokens_paid = total;
            if last {
                w.status = ContractStatus::Closed;
            }
            params_version(&w.params)?;
            let (price, fee) = (w.params.price_per_token, w.params.worker_fee_per_token);
            let payload = WorkerRequestPayload::Payout {
                worker_part: fresh * fee,
                proxy_part: fresh * price.checked_sub(fee).ok_or(RANGE)?,
                excess_to: opened.receiver,
            };
            // Beside the ABI: a request that could not pay for its way back does not leave (found by these tests).
            ensure(
                call.balance_before() >= OWN_FLOOR || call.balance >= OWN_FLOOR + COMMISSION,
                1003,
            )?;
            // Beside the ABI: also at the last payout the contract's own coins stay.
            Ok(Verdict::keeping(
                Keep::Exactly(call.keep(OWN_FLOOR)),
                vec![request(w, q, Some(payload), Worth::Rest)],
            ))
        }
        op::WORKER_REGISTER => {
            ensure(call.value > COMMISSION, 1003)?;
            ensure(call.from == Some(w.owner), 1010)?;
            let receiver: Address = body.address()?;
            body.end()?;
            Ok(Verdict::keeping(
                Keep::Exactly(call.keep(OWN_FLOOR)),
                vec![request(w, q, None, Worth::Exactly(1)), excess(receiver, q)],
            ))
        }
        _ => Err(Exit(1012)),
    }
}

/// Beside the ABI: the proxy did not pay, so the difference is taken back and the contract is open again.
pub fn bounced(
    w: &mut WorkerState,
    call: &Call<'_>,
    from: Address,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    if from != w.proxy {
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
    request.address()?;
    request.uint(2)?;
    request.u64()?;
    let order = request.maybe_cell()?.ok_or(Exit(9))?;
    let mut order = Bits::new(&order);
    order.u32()?;
    let parts = order.coins()? + order.coins()?;
    let receiver = order.address()?;
    if let Some(tokens) = parts.checked_div(w.params.price_per_token) {
        w.tokens_paid -= tokens as u64;
    }
    w.status = ContractStatus::Normal;
    Ok(Verdict::keeping(
        Keep::AtMost(call.keep(OWN_FLOOR)),
        vec![excess(receiver, q)],
    ))
}
