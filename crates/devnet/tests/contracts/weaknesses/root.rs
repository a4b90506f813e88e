//! W11, and what cannot be changed about the root: W12, W20, W21.

use cocoon_ton::abi::{
    AbiError, Envelope, Params, RootMessage, RootState, SignedOp, SignedPayload, op,
};
use cocoon_ton::{Address, CellBuilder, StackValue};

use super::scene::{FIFTH, Scene, TERMS, equal};
use crate::codes::Codes;
use crate::net::{Net, Terms, person};
use crate::world::{Send, TON, World};

struct Governed {
    world: World,
    net: Net,
}

impl Governed {
    fn new(codes: &Codes) -> Self {
        let net = Net::new(codes, TERMS);
        let mut world = World::new();
        world.install(&net.root, TON);
        Self { world, net }
    }

    fn from(&mut self, owner: Address, message: &RootMessage) -> Option<i32> {
        let body = message.encode().unwrap();
        let send = Send::new(owner, self.net.root.address, TON / 100, body);
        self.world.run_one(send).exit_code
    }

    fn order(&mut self, message: &RootMessage) -> Option<i32> {
        self.from(self.net.root_owner, message)
    }

    fn state(&self) -> Result<RootState, AbiError> {
        RootState::decode(self.world.data(&self.net.root.address).unwrap())
    }

    fn change_price(&mut self, price: u128, fee: u128) -> Option<i32> {
        self.order(&RootMessage::ChangePrice {
            query_id: 1,
            price_per_token: price,
            worker_fee_per_token: fee,
        })
    }

    fn change_params(&mut self, delays: [u32; 2], stakes: [u128; 2]) -> Option<i32> {
        self.order(&RootMessage::ChangeParams {
            query_id: 1,
            price_per_token: 25,
            worker_fee_per_token: 20,
            proxy_delay: delays[0],
            client_delay: delays[1],
            min_proxy_stake: stakes[0],
            min_client_stake: stakes[1],
        })
    }
}

/// W11: prices that would make every payout fail are refused with 2001, and nothing changes.
pub fn w11_fee_above_price_is_refused(codes: &Codes) -> Result<(), String> {
    let mut root = Governed::new(codes);
    let before = root.state().map_err(|e| e.to_string())?;
    equal("changed", root.change_price(30, 31), Some(2001))?;
    equal(
        "state",
        root.state().map_err(|e| e.to_string())?,
        before.clone(),
    )?;
    // The limit itself is allowed.
    equal("changed", root.change_price(30, 30), Some(0))?;
    equal("changed to nothing", root.change_price(0, 0), Some(0))?;
    let after = root.state().map_err(|e| e.to_string())?;
    equal("version", after.version, before.version + 2)
}

/// W11: no delay and no stake may be zero, and no delay so long that nobody could leave any more.
pub fn w11_zeros_are_refused(codes: &Codes) -> Result<(), String> {
    let mut root = Governed::new(codes);
    let before = root.state().map_err(|e| e.to_string())?;
    for (delays, stakes) in [
        ([0, 1], [1, 1]),
        ([1, 0], [1, 1]),
        ([1, 1], [0, 1]),
        ([1, 1], [1, 0]),
        ([(1 << 30) + 1, 1], [1, 1]),
        ([1, u32::MAX], [1, 1]),
    ] {
        equal("changed", root.change_params(delays, stakes), Some(2001))?;
        equal(
            "state",
            root.state().map_err(|e| e.to_string())?,
            before.clone(),
        )?;
    }
    equal(
        "changed",
        root.change_params([1 << 30, 1 << 30], [1, 1]),
        Some(0),
    )?;
    equal("changed", root.change_params([1, 1], [1, 1]), Some(0))
}

/// The official behaviour: the root takes such prices, and every payout of the contracts made from them fails.
pub fn w11_lost_by_fee(codes: &Codes) -> Result<(), String> {
    let mut root = Governed::new(codes);
    equal("changed", root.change_price(30, 31), Some(0))?;
    let params = root.state().map_err(|e| e.to_string())?.params;
    let terms = Terms {
        price: params.price_per_token,
        fee: params.worker_fee_per_token,
        ..TERMS
    };
    let mut s = Scene::new(codes, terms, 100 * TON);
    match s.relay(SignedOp::WorkerPayout, 1_000_000) {
        Some(5) => {
            equal(
                "last",
                s.relay(SignedOp::WorkerLastPayout, 1_000_000),
                Some(5),
            )?;
            equal("owner has", s.received(&s.worker_owner), 0)
        }
        // tycho-vm 0.3.7 stores a negative amount of coins as a positive one, where the official machine ends with 5.
        // Here every token pays out more than a client is ever charged for it.
        Some(0) => {
            let paid = s.received(&s.worker_owner) + s.proxy_state().balance;
            equal("paid and booked", paid, 32_000_000)?;
            equal("worth", 1_000_000 * terms.price, 30_000_000)
        }
        other => Err(format!("exit {other:?}")),
    }
}

/// The official behaviour: without a delay an owner closes his proxy and takes the deposits in the same second.
pub fn w11_lost_by_zero_delay(codes: &Codes) -> Result<(), String> {
    let mut root = Governed::new(codes);
    equal("changed", root.change_params([0, 0], [0, 0]), Some(0))?;
    let params = root.state().map_err(|e| e.to_string())?.params;
    let terms = Terms {
        proxy_delay: params.proxy_delay,
        client_delay: params.client_delay,
        min_proxy_stake: params.min_proxy_stake,
        min_client_stake: params.min_client_stake,
        ..TERMS
    };
    let mut s = Scene::new(codes, terms, TON);
    equal("deposited", s.top_up(50 * TON), Some(0))?;
    equal("stake", s.client_state().stake, 0)?;
    equal("closed", s.close_proxy(), Some(0))?;
    let op = SignedOp::ProxyCloseComplete;
    equal("completed", s.relay(op, 0), Some(0))?;
    let taken = s.sent(&s.net.proxy_owner, op::PAYOUT);
    super::scene::between("owner took", taken[0], 51 * TON, 51 * TON + FIFTH)
}

/// W12, what stays: the owner changes in one step, and replacing the code raises no version. Whoever wants votes, a
/// delay or a veto makes a contract the owner (see the governance tests).
pub fn w12_owner_rules_alone(codes: &Codes) -> Result<(), String> {
    let mut root = Governed::new(codes);
    let before = root.state().map_err(|e| e.to_string())?;
    let heir = person(0xa2);
    let change = RootMessage::ChangeOwner {
        query_id: 1,
        owner: heir,
    };
    equal("changed", root.order(&change), Some(0))?;
    equal("again by the old one", root.order(&change), Some(1010))?;
    let code = root.net.codes.worker.clone();
    let replace = RootMessage::ReplaceCode {
        query_id: 2,
        code: code.clone(),
    };
    equal("replaced by the heir", root.from(heir, &replace), Some(0))?;
    let account = root.world.account(&root.net.root.address);
    equal("code", account.code.as_ref(), Some(&code))?;
    let after = root.state().map_err(|e| e.to_string())?;
    equal("version", after.version, before.version + 1)?;
    equal("owner", after.owner, heir)
}

/// W20, what stays: new params are a new network of contracts. The old proxy knows no client of the new ones, and
/// what was signed for the old contracts is worth nothing for the new.
pub fn w20_new_params_are_new_contracts(codes: &Codes) -> Result<(), String> {
    let mut root = Governed::new(codes);
    equal("changed", root.change_price(30, 20), Some(0))?;
    let params: Params = root.state().map_err(|e| e.to_string())?.params;
    equal(
        "params version",
        params.params_version,
        root.net.params.params_version + 1,
    )?;
    let mut s = Scene::new(codes, TERMS, TON);
    let (owner, proxy) = (s.client_owner, s.net.proxy.address);
    let new = cocoon_ton::abi::client_init(&params, proxy, s.net.public_key(), owner).unwrap();
    equal("same address", new.address == s.client.address, false)?;
    s.world.deploy(owner, &new, TON * 8 / 10);
    let message = cocoon_ton::abi::ClientMessage::TopUp {
        query_id: 3,
        coins: TON,
        excess_to: owner,
    };
    let txs = s.send(owner, new.address, 2 * TON, message.encode().unwrap());
    equal("client", txs[0].exit_code, Some(0))?;
    equal("old proxy", txs[1].exit_code, Some(1014))?;
    let old = s.signed(SignedOp::ClientCharge, 7, owner);
    let txs = s.send(owner, new.address, FIFTH, old);
    equal("old charge", txs[0].exit_code, Some(1015))
}

/// W21, what stays: two of the four multipliers cannot be asked for; they are in the data cell.
pub fn w21_two_multipliers_are_hidden(codes: &Codes) -> Result<(), String> {
    let root = Governed::new(codes);
    let params = &root.net.params;
    let result = root
        .world
        .get(&root.net.root.address, "get_cur_params", &[]);
    equal("exit", result.exit_code, 0)?;
    let numbers: Vec<u128> = result
        .stack
        .iter()
        .filter_map(|value| match value {
            StackValue::Int(n) => u128::try_from(n).ok(),
            _ => None,
        })
        .collect();
    equal("entries", result.stack.len(), 14)?;
    let shown = |n: u32| numbers.contains(&u128::from(n));
    equal("cached", shown(params.cached_multiplier), true)?;
    equal("reasoning", shown(params.reasoning_multiplier), true)?;
    equal("prompt", shown(params.prompt_multiplier), false)?;
    equal("completion", shown(params.completion_multiplier), false)
}

/// W17, what stays: a signature has no expiry and names no network; what separates networks is the address.
pub fn w17_signatures_do_not_expire(codes: &Codes) -> Result<(), String> {
    const TEN_YEARS: u32 = 10 * 365 * 86_400;
    let mut s = Scene::new(codes, TERMS, 10 * TON);
    let body = s.signed(SignedOp::WorkerPayout, 1_000_000, s.relayer);
    let worker = s.worker.address;
    s.world.set_balance(&worker, 10 * TON); // rent for ten years
    let proxy = s.net.proxy.address;
    s.world.set_balance(&proxy, 10 * TON);
    s.world.jump(TEN_YEARS);
    equal("paid", s.present(SignedOp::WorkerPayout, body), Some(0))?;
    equal("owner has", s.received(&s.worker_owner), 20_000_000)?;

    // The same key in a network that differs in one number: its signatures name other contracts.
    let mut other = Net::new(codes, TERMS);
    other.params.unique_id += 1;
    let payload = SignedPayload {
        op: SignedOp::WorkerPayout,
        query_id: 9,
        tokens: 2_000_000,
        target: other.worker(s.worker_owner).address,
    };
    let foreign = Envelope::sign(payload, &s.net.key, s.relayer).unwrap();
    let exit = s.present(SignedOp::WorkerPayout, foreign.encode().unwrap());
    equal("foreign", exit, Some(1015))?;
    // And a database row signed with the same key is no payload: it would have to be a cell with this hash.
    let mut b = CellBuilder::new();
    b.store_u256(&tycho_types::cell::HashBytes([7; 32]))
        .unwrap();
    let row = b.build().unwrap();
    let message = {
        use ed25519_dalek::Signer;
        let signature = s.net.key.sign(&[7; 32]).to_bytes();
        let mut b = CellBuilder::new();
        b.store_u32(op::WORKER_PAYOUT).unwrap();
        b.store_u64(9).unwrap();
        crate::bad_input::store_address(&mut b, &s.relayer);
        b.store_raw(&signature, 512).unwrap();
        b.store_reference(row).unwrap();
        b.build().unwrap()
    };
    let exit = s.present(SignedOp::WorkerPayout, message);
    equal("signed row", exit, Some(1007))
}
