//! Proxy contract: contracts.md section 7.

use cocoon_ton::Address;
use cocoon_ton::abi::{ContractStatus, ProxyState, client_init, op, worker_init};

use super::{
    Bits, COMMISSION, Call, Exit, Keep, RANGE, STORAGE, Sent, Verdict, Worth, ensure, excess, open,
    params_version, payout,
};

/// The proxy's action phase bounces if it fails (beside the ABI).
fn verdict(keep: u128, sent: Vec<Sent>) -> Verdict {
    Verdict {
        bounces: true,
        ..Verdict::keeping(Keep::Exactly(keep), sent)
    }
}

fn pay(
    call: &Call<'_>,
    to: Address,
    amount: u128,
    q: u64,
    receiver: Address,
) -> Result<Verdict, Exit> {
    let keep = call.keep(STORAGE).checked_sub(amount).ok_or(RANGE)?;
    Ok(verdict(
        keep,
        vec![payout(to, Worth::Exactly(amount), q), excess(receiver, q)],
    ))
}

fn start_closing(
    p: &mut ProxyState,
    call: &Call<'_>,
    q: u64,
    receiver: Address,
) -> Result<Verdict, Exit> {
    params_version(&p.params)?;
    p.status = ContractStatus::Closing;
    p.unlock_time = call.now + p.params.proxy_delay;
    Ok(verdict(call.keep(STORAGE), vec![excess(receiver, q)]))
}

fn owner_close(
    p: &mut ProxyState,
    call: &Call<'_>,
    from: Address,
    q: u64,
    receiver: Address,
) -> Result<Verdict, Exit> {
    ensure(call.value >= COMMISSION, 1003)?;
    ensure(p.status == ContractStatus::Normal, 1006)?;
    ensure(from == p.owner, 1010)?;
    start_closing(p, call, q, receiver)
}

pub fn receive(
    p: &mut ProxyState,
    call: &Call<'_>,
    from: Address,
    op_code: u32,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    if op_code == op::TEXT {
        return text(p, call, from, body);
    }
    let q = body.u64()?;
    let open_state = |p: &ProxyState| ensure(p.status != ContractStatus::Closed, 1006);
    match op_code {
        op::WORKER_REQUEST => {
            let owner = body.address()?;
            body.uint(2)?;
            body.u64()?;
            let payload = body.maybe_cell()?;
            body.end()?;
            let Some(payload) = payload else {
                return Ok(Verdict::silent());
            };
            let worker = worker_init(&p.params, call.me, p.public_key, owner).unwrap();
            ensure(from == worker.address, 1014)?;
            let mut order = Bits::new(&payload);
            ensure(order.u32()? == op::WORKER_REQUEST_PAYOUT, 1012)?;
            let worker_part = order.coins()?;
            let proxy_part = order.coins()?;
            let receiver = order.address()?;
            order.end()?;
            open_state(p)?;
            p.balance += proxy_part;
            pay(call, owner, worker_part, q, receiver)
        }
        op::CLIENT_REQUEST => {
            let owner = body.address()?;
            body.cell()?;
            let payload = body.maybe_cell()?;
            body.end()?;
            let Some(payload) = payload else {
                return Ok(Verdict::silent());
            };
            let client = client_init(&p.params, call.me, p.public_key, owner).unwrap();
            ensure(from == client.address, 1014)?;
            client_order(p, call, owner, q, Bits::new(&payload))
        }
        op::PROXY_PAY_REVENUE => {
            let receiver = body.address()?;
            body.end()?;
            ensure(call.value >= COMMISSION, 1003)?;
            open_state(p)?;
            let revenue = std::mem::take(&mut p.balance);
            pay(call, p.owner, revenue, q, receiver)
        }
        op::PROXY_INCREASE_STAKE => {
            let coins = body.coins()?;
            let receiver = body.address()?;
            body.end()?;
            ensure(call.value >= COMMISSION + coins, 1003)?;
            open_state(p)?;
            p.stake += coins;
            Ok(verdict(
                call.keep(STORAGE) + coins,
                vec![excess(receiver, q)],
            ))
        }
        op::PROXY_CLOSE => {
            let receiver = body.address()?;
            body.end()?;
            owner_close(p, call, from, q, receiver)
        }
        op::PROXY_CLOSE_SIGNED | op::PROXY_CLOSE_COMPLETE => {
            let complete = op_code == op::PROXY_CLOSE_COMPLETE;
            let opened = open(body, op_code, q, &p.public_key)?;
            let mut tail = opened.tail();
            let target = tail.address()?;
            tail.end()?;
            ensure(call.value >= COMMISSION, 1003)?;
            let wanted = if complete {
                ContractStatus::Closing
            } else {
                ContractStatus::Normal
            };
            ensure(p.status == wanted, 1006)?;
            ensure(target == call.me, 1015)?;
            if !complete {
                return start_closing(p, call, q, opened.receiver);
            }
            ensure(call.now >= p.unlock_time, 1011)?;
            p.status = ContractStatus::Closed;
            p.balance = 0;
            p.stake = 0;
            p.unlock_time = 0;
            Ok(verdict(STORAGE, vec![payout(p.owner, Worth::Rest, q)]))
        }
        _ => Err(Exit(1012)),
    }
}

fn client_order(
    p: &mut ProxyState,
    call: &Call<'_>,
    owner: Address,
    q: u64,
    mut order: Bits<'_>,
) -> Result<Verdict, Exit> {
    let kind = order.u32()?;
    if kind == op::CLIENT_REQUEST_REGISTER {
        return Ok(Verdict::silent());
    }
    ensure(
        [
            op::CLIENT_REQUEST_TOP_UP,
            op::CLIENT_REQUEST_REFUND_GRANTED,
            op::CLIENT_REQUEST_REFUND_FORCED,
        ]
        .contains(&kind),
        1012,
    )?;
    let coins = order.coins()?;
    let receiver = order.address()?;
    order.end()?;
    if kind == op::CLIENT_REQUEST_TOP_UP {
        let keep = call.keep(STORAGE);
        return Ok(if p.status == ContractStatus::Normal {
            verdict(keep + coins, vec![excess(receiver, q)])
        } else {
            verdict(
                keep,
                vec![
                    // Beside the ABI: dust goes to the excess, a deposit never bounces here.
                    Sent {
                        optional: true,
                        ..payout(owner, Worth::LessFees(coins), q)
                    },
                    excess(receiver, q),
                ],
            )
        });
    }
    ensure(p.status != ContractStatus::Closed, 1006)?;
    let mut amount = coins;
    if kind == op::CLIENT_REQUEST_REFUND_FORCED {
        amount = coins.min(p.stake);
        p.stake -= amount;
    }
    pay(call, owner, amount, q, receiver)
}

fn text(
    p: &mut ProxyState,
    call: &Call<'_>,
    from: Address,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    let char = body.u8()?;
    body.end()?;
    match char {
        b'c' => owner_close(p, call, from, 0, from),
        b'w' => {
            ensure(call.value >= COMMISSION, 1003)?;
            ensure(p.status != ContractStatus::Closed, 1006)?;
            ensure(from == p.owner, 1010)?;
            let keep = call.keep(STORAGE).checked_sub(p.balance).ok_or(RANGE)?;
            p.balance = 0;
            Ok(verdict(keep, vec![payout(p.owner, Worth::Rest, 0)]))
        }
        _ => Err(Exit(1013)),
    }
}
