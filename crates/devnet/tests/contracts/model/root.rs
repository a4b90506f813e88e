//! Root contract: contracts.md section 6.

use cocoon_ton::Address;
use cocoon_ton::abi::{NetAddress, RootState, op};

use super::{Bits, Call, Exit, Keep, MALFORMED, STORAGE, Verdict, ensure, excess};

/// Beside the ABI: params with which contracts could not work.
const BAD_PARAMS: i32 = 2001;

fn net_address(mut body: Bits<'_>) -> Result<NetAddress, Exit> {
    ensure(body.uint(1)? == 0, 1004)?;
    let length = body.uint(7)? as usize;
    let text = body.text(length)?;
    body.end()?;
    NetAddress::new(std::str::from_utf8(&text).map_err(|_| MALFORMED)?).map_err(|_| MALFORMED)
}

fn hash(mut body: Bits<'_>) -> Result<[u8; 32], Exit> {
    let hash = body.bytes()?;
    body.end()?;
    Ok(hash)
}

pub fn receive(
    r: &mut RootState,
    call: &Call<'_>,
    from: Address,
    op_code: u32,
    mut body: Bits<'_>,
) -> Result<Verdict, Exit> {
    let q = body.u64()?;
    ensure(from == r.owner, 1010)?;
    let mut verdict = Verdict::keeping(Keep::Exactly(call.keep(STORAGE)), vec![excess(from, q)]);
    match op_code {
        op::ROOT_REPLACE_CODE => {
            let code = body.cell()?;
            body.end()?;
            verdict.code = Some(code);
            return Ok(verdict);
        }
        op::ROOT_REPLACE_DATA_AND_CODE => {
            let data = body.cell()?;
            let code = body.cell()?;
            body.end()?;
            // The tests only send data that can be read.
            *r = RootState::decode(&data).map_err(|_| MALFORMED)?;
            verdict.code = Some(code);
            return Ok(verdict);
        }
        op::ROOT_ADD_WORKER_HASH => {
            r.worker_hashes.insert(hash(body)?);
        }
        op::ROOT_DELETE_WORKER_HASH => {
            r.worker_hashes.remove(&hash(body)?);
        }
        op::ROOT_ADD_MODEL_HASH => {
            r.model_hashes.insert(hash(body)?);
        }
        op::ROOT_DELETE_MODEL_HASH => {
            r.model_hashes.remove(&hash(body)?);
        }
        op::ROOT_ADD_PROXY_HASH => {
            r.proxy_hashes.insert(hash(body)?);
        }
        op::ROOT_DELETE_PROXY_HASH => {
            r.proxy_hashes.remove(&hash(body)?);
        }
        op::ROOT_REGISTER_PROXY => {
            let address = net_address(body)?;
            r.last_proxy_seqno += 1;
            r.proxies.insert(r.last_proxy_seqno, address);
        }
        op::ROOT_UNREGISTER_PROXY => {
            let seqno = body.u32()?;
            body.end()?;
            r.proxies.remove(&seqno);
        }
        op::ROOT_UPDATE_PROXY => {
            let seqno = body.u32()?;
            let address = net_address(body)?;
            ensure(r.proxies.contains_key(&seqno), 2000)?;
            r.proxies.insert(seqno, address);
        }
        op::ROOT_CHANGE_PRICE => {
            let price = body.coins()?;
            let fee = body.coins()?;
            body.end()?;
            ensure(fee <= price, BAD_PARAMS)?;
            r.params.price_per_token = price;
            r.params.worker_fee_per_token = fee;
            r.params.params_version += 1;
        }
        op::ROOT_CHANGE_PARAMS => {
            let price = body.coins()?;
            let fee = body.coins()?;
            let (proxy_delay, client_delay) = (body.u32()?, body.u32()?);
            let (proxy_stake, client_stake) = (body.coins()?, body.coins()?);
            body.end()?;
            ensure(fee <= price, BAD_PARAMS)?;
            ensure(
                is_delay(proxy_delay)
                    && is_delay(client_delay)
                    && proxy_stake > 0
                    && client_stake > 0,
                BAD_PARAMS,
            )?;
            r.params.price_per_token = price;
            r.params.worker_fee_per_token = fee;
            r.params.proxy_delay = proxy_delay;
            r.params.client_delay = client_delay;
            r.params.min_proxy_stake = proxy_stake;
            r.params.min_client_stake = client_stake;
            r.params.params_version += 1;
        }
        op::ROOT_REPLACE_CONTRACT_CODES => {
            let (proxy, worker, client) = (body.cell()?, body.cell()?, body.cell()?);
            body.end()?;
            r.params.proxy_code = Some(proxy);
            r.params.worker_code = Some(worker);
            r.params.client_code = Some(client);
            r.params.params_version += 1;
        }
        op::ROOT_RESET => {
            body.end()?;
            r.proxy_hashes.clear();
            r.worker_hashes.clear();
            r.model_hashes.clear();
            r.proxies.clear();
        }
        op::ROOT_CHANGE_OWNER => {
            r.owner = body.address()?;
            body.end()?;
        }
        _ => return Err(Exit(1012)),
    }
    r.version += 1;
    Ok(verdict)
}

/// Beside the ABI: neither zero nor so long that an unlock time could not be written.
fn is_delay(seconds: u32) -> bool {
    (1..=1 << 30).contains(&seconds)
}
