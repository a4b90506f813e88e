//! Accounts that lie, are damaged or run foreign code: a clear answer, and never a panic.

use std::collections::HashMap;
use std::path::Path;

use cocoon_exit::{ExitError, Known, Plan, Way, judge, prove};
use cocoon_ton::abi::{
    ClientState, ContractStatus, Params, ProxyState, WalletState, params::STRUCT_VERSION,
};
use cocoon_ton::{
    AccountState, AccountStatus, Address, Cell, CellBuilder, Chain, ChainError, GetResult, MsgInfo,
    NetworkInfo, StackValue, TxInfo, boc,
};
use proptest::prelude::*;

const TON: u128 = 1_000_000_000;
const CLIENT: Address = Address::basechain([1; 32]);
const PROXY: Address = Address::basechain([2; 32]);
const OWNER: Address = Address::basechain([3; 32]);

/// A chain of three accounts that are what somebody says they are, and the client contract's last transaction.
struct Liar(HashMap<Address, AccountState>, Option<TxInfo>);

#[async_trait::async_trait]
impl Chain for Liar {
    async fn network(&self) -> Result<NetworkInfo, ChainError> {
        Ok(NetworkInfo {
            global_id: -217,
            seqno: 1,
            utime: 1_790_000_000,
        })
    }

    async fn account(&self, address: &Address) -> Result<AccountState, ChainError> {
        let account = self.0.get(address).cloned();
        Ok(account.unwrap_or(AccountState::NONEXISTENT))
    }

    async fn transactions(
        &self,
        address: &Address,
        _: u64,
        _: usize,
    ) -> Result<Vec<TxInfo>, ChainError> {
        let last = self.1.clone().filter(|tx| tx.account == *address);
        Ok(last.into_iter().collect())
    }

    async fn run_get_method(
        &self,
        _: &Address,
        _: &str,
        _: Vec<StackValue>,
    ) -> Result<GetResult, ChainError> {
        Err(ChainError::BadRequest("not needed".to_owned()))
    }

    async fn send(&self, _: Vec<u8>) -> Result<[u8; 32], ChainError> {
        panic!("the prover sends nothing");
    }
}

fn code(name: &str) -> Cell {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/build");
    let bytes = std::fs::read(dir.join(format!("Cocoon{name}.boc"))).unwrap();
    boc::decode(&bytes, boc::STATE).unwrap()
}

fn params() -> Params {
    Params {
        struct_version: STRUCT_VERSION,
        params_version: 1,
        unique_id: 7,
        is_test: true,
        price_per_token: 1000,
        worker_fee_per_token: 900,
        prompt_multiplier: 10_000,
        cached_multiplier: 10_000,
        completion_multiplier: 10_000,
        reasoning_multiplier: 10_000,
        proxy_delay: 600,
        client_delay: 300,
        min_proxy_stake: TON,
        min_client_stake: TON,
        proxy_code: None,
        worker_code: None,
        client_code: None,
    }
}

fn client(balance: u128) -> ClientState {
    ClientState {
        owner: OWNER,
        proxy: PROXY,
        public_key: [4; 32],
        status: ContractStatus::Normal,
        balance,
        stake: TON,
        tokens_used: 0,
        unlock_time: 0,
        secret_hash: [0; 32],
        params: params(),
    }
}

fn proxy(stake: u128) -> ProxyState {
    ProxyState {
        owner: OWNER,
        public_key: [4; 32],
        root: OWNER,
        status: ContractStatus::Normal,
        balance: 0,
        stake,
        unlock_time: 0,
        params: params(),
    }
}

fn active(balance: u128, code: Cell, data: Cell) -> AccountState {
    AccountState {
        status: AccountStatus::Active,
        balance,
        code: Some(code),
        data: Some(data),
        ..AccountState::NONEXISTENT
    }
}

fn liar(client_code: Cell, client_data: Cell, proxy_data: Cell, coins: u128) -> Liar {
    let owner = WalletState {
        seqno: 1,
        subwallet: 0,
        public_key: [5; 32],
        status: 0,
        owner: OWNER,
    };
    let owner = active(100 * TON, code("Wallet"), owner.encode().unwrap());
    let accounts = HashMap::from([
        (CLIENT, active(TON, client_code, client_data)),
        (PROXY, active(coins, code("Proxy"), proxy_data)),
        (OWNER, owner),
    ]);
    Liar(accounts, None)
}

/// A contract with another address than its data says: the proxy contract does not know it.
#[tokio::test]
async fn a_client_that_the_proxy_does_not_know() {
    let chain = liar(
        code("Client"),
        client(5 * TON).encode().unwrap(),
        proxy(9 * TON).encode().unwrap(),
        20 * TON,
    );
    let report = prove(&chain, &CLIENT, Known::default()).await.unwrap();
    let outcome = report.way(Way::Forced).unwrap().outcome.clone();
    // The first step bounces already; the recommendation is not to force it.
    let blocked = outcome.unwrap_err();
    assert!(blocked.reason.contains("comes back"), "{blocked}");
    assert_ne!(report.recommended, Some(Way::Forced));
    let verdict = judge(&chain, &CLIENT, Plan::TopUp { coins: TON })
        .await
        .unwrap();
    assert!(!verdict.is_safe());
}

/// Code that throws, code that is no code, and a frozen proxy.
#[tokio::test]
async fn foreign_code() {
    let mut thrower = CellBuilder::new();
    thrower.store_u16(0xf22a).unwrap();
    for code in [thrower.build().unwrap(), Cell::default()] {
        let chain = liar(
            code,
            client(5 * TON).encode().unwrap(),
            proxy(9 * TON).encode().unwrap(),
            20 * TON,
        );
        let verdict = judge(&chain, &CLIENT, Plan::TopUp { coins: TON })
            .await
            .unwrap();
        assert!(!verdict.is_safe(), "{verdict:?}");
    }
    let mut chain = liar(
        code("Client"),
        client(5 * TON).encode().unwrap(),
        proxy(9 * TON).encode().unwrap(),
        20 * TON,
    );
    chain.0.get_mut(&PROXY).unwrap().status = AccountStatus::Frozen;
    let error = prove(&chain, &CLIENT, Known::default()).await.unwrap_err();
    assert!(
        error.to_string().contains("nothing can be paid out of it"),
        "{error}"
    );
    chain.0.remove(&CLIENT);
    let error = prove(&chain, &CLIENT, Known::default()).await.unwrap_err();
    assert!(matches!(error, ExitError::NoClient(CLIENT)));
}

/// A deposit that has left the client contract and not reached the proxy contract: its coins are nowhere, and
/// everybody else's claims would look smaller by as much. The prover waits, and gives up after a while.
#[tokio::test(start_paused = true)]
async fn a_deposit_under_way() {
    let mut chain = liar(
        code("Client"),
        client(5 * TON).encode().unwrap(),
        proxy(9 * TON).encode().unwrap(),
        20 * TON,
    );
    chain.0.get_mut(&CLIENT).unwrap().last_lt = 50;
    chain.0.get_mut(&PROXY).unwrap().last_lt = 40;
    let message = MsgInfo {
        src: Some(CLIENT),
        dst: Some(PROXY),
        value: 5 * TON,
        bounce: true,
        bounced: false,
        fwd_fee: 0,
        ihr_fee: 0,
        created_lt: 51,
        body: Cell::default(),
        hash: [0; 32],
        init: false,
    };
    chain.1 = Some(TxInfo {
        account: CLIENT,
        lt: 50,
        hash: [0; 32],
        prev_lt: 0,
        prev_hash: [0; 32],
        utime: 1_789_999_990,
        total_fees: 0,
        aborted: false,
        compute_exit_code: Some(0),
        action_result_code: Some(0),
        in_msg: None,
        out_msgs: vec![message],
        boc: Cell::default(),
    });
    let error = prove(&chain, &CLIENT, Known::default()).await.unwrap_err();
    assert!(matches!(error, ExitError::Restless(_)), "{error}");
    chain.0.get_mut(&PROXY).unwrap().last_lt = 52;
    prove(&chain, &CLIENT, Known::default()).await.unwrap();
}

/// Flips bits of a cell's data; references stay.
fn damaged(cell: &Cell, flips: &[u16]) -> Cell {
    let slice = cell.as_slice().unwrap();
    let bits = slice.size_bits();
    let mut bytes = [0u8; 128];
    let mut copy = slice;
    copy.load_raw(&mut bytes, bits).unwrap();
    for flip in flips {
        let at = usize::from(flip % bits.max(1));
        bytes[at / 8] ^= 0x80 >> (at % 8);
    }
    let mut builder = CellBuilder::new();
    builder.store_raw(&bytes, bits).unwrap();
    while !copy.is_refs_empty() {
        let reference = copy.load_reference_cloned().unwrap();
        builder.store_reference(reference).unwrap();
    }
    builder.build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the figures and the damage: an answer or an error, and never more returned than there is.
    #[test]
    fn damaged_accounts(
        balance in 0u128..1 << 100,
        stake in 0u128..1 << 80,
        coins in prop_oneof![0u128..1 << 60, Just(u128::MAX)],
        client_flips in prop::collection::vec(any::<u16>(), 0..4),
        proxy_flips in prop::collection::vec(any::<u16>(), 0..4),
        deposit in any::<u64>(),
    ) {
        let client_data = damaged(&client(balance).encode().unwrap(), &client_flips);
        let proxy_data = damaged(&proxy(stake).encode().unwrap(), &proxy_flips);
        let chain = liar(code("Client"), client_data, proxy_data, coins);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let plan = Plan::TopUp { coins: deposit.into() };
        let results = runtime.block_on(async {
            (prove(&chain, &CLIENT, Known::default()).await, judge(&chain, &CLIENT, plan).await)
        });
        prop_assert!(!matches!(results.0, Err(ExitError::Thread)));
        prop_assert!(!matches!(results.1, Err(ExitError::Thread)));
        if let Ok(report) = results.0 {
            for way in report.ways {
                if let Ok(outcome) = way.outcome
                    && outcome.exact
                {
                    prop_assert!(outcome.returned <= coins);
                }
            }
        }
    }
}
