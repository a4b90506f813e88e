//! Transactions and messages, built with the cell library's own models and read by ours.

use cocoon_ton::transaction::{parse_message, parse_transaction};
use cocoon_ton::wallet::{External, InternalMessage};
use cocoon_ton::{Address, Cell, CellBuilder, Chain, ChainError, StackValue};
use tycho_types::cell::{HashBytes, Lazy};
use tycho_types::dict::Dict;
use tycho_types::models::{
    AccountStatus, ComputePhase, ComputePhaseSkipReason, CurrencyCollection, ExtOutMsgInfo,
    HashUpdate, IntMsgInfo, MsgInfo, OrdinaryTxInfo, OwnedMessage, SkippedComputePhase, StateInit,
    StdAddr, Transaction, TxInfo,
};
use tycho_types::num::{Tokens, Uint15};

/// Nodes hold a chain behind a pointer.
const _: fn(&dyn Chain) = |_| ();

fn address(byte: u8) -> Address {
    Address::basechain([byte; 32])
}

#[test]
fn a_notification_without_gas_is_seen() {
    // A message of 1 nanoTON: its transaction has no compute phase, yet nodes must read its body.
    let mut body = CellBuilder::new();
    body.store_u32(0x6544_8ff4).unwrap();
    let body = body.build().unwrap();
    let inbound = InternalMessage::call(address(1), 1, body.clone())
        .encode()
        .unwrap();
    let out = OwnedMessage {
        info: MsgInfo::Int(IntMsgInfo {
            src: StdAddr::from(address(1)).into(),
            dst: StdAddr::from(address(2)).into(),
            value: CurrencyCollection::new(77),
            fwd_fee: Tokens::new(5),
            created_lt: 43,
            bounced: true,
            ..IntMsgInfo::default()
        }),
        init: Some(StateInit::default()),
        body: body.clone().into(),
        layout: None,
    };
    let out = CellBuilder::build_from(&out).unwrap();
    let mut out_msgs = Dict::<Uint15, Cell>::new();
    out_msgs.set(Uint15::new(0), out.clone()).unwrap();
    let transaction = Transaction {
        account: HashBytes([1; 32]),
        lt: 42,
        prev_trans_hash: HashBytes([9; 32]),
        prev_trans_lt: 41,
        now: 1_770_000_000,
        out_msg_count: Uint15::new(1),
        orig_status: AccountStatus::Active,
        end_status: AccountStatus::Active,
        in_msg: Some(inbound.clone()),
        out_msgs,
        total_fees: CurrencyCollection::new(1),
        state_update: Lazy::new(&HashUpdate {
            old: HashBytes::ZERO,
            new: HashBytes::ZERO,
        })
        .unwrap(),
        info: Lazy::new(&TxInfo::Ordinary(OrdinaryTxInfo {
            credit_first: false,
            storage_phase: None,
            credit_phase: None,
            compute_phase: ComputePhase::Skipped(SkippedComputePhase {
                reason: ComputePhaseSkipReason::NoGas,
            }),
            action_phase: None,
            aborted: true,
            bounce_phase: None,
            destroyed: false,
        }))
        .unwrap(),
    };
    let cell = CellBuilder::build_from(&transaction).unwrap();
    let read = parse_transaction(&cell).unwrap();
    assert_eq!((read.account, read.lt, read.prev_lt), (address(1), 42, 41));
    assert_eq!((read.hash, read.prev_hash), (cell.repr_hash().0, [9; 32]));
    assert_eq!(
        (read.utime, read.total_fees, read.aborted),
        (1_770_000_000, 1, true)
    );
    assert_eq!(
        (read.compute_exit_code, read.action_result_code),
        (None, None)
    );
    let seen = read.in_msg.unwrap();
    assert_eq!(
        (seen.dst, seen.value, seen.bounce),
        (Some(address(1)), 1, true)
    );
    assert_eq!((&seen.body, seen.hash), (&body, inbound.repr_hash().0));
    let sent = &read.out_msgs[0];
    assert_eq!(read.out_msgs.len(), 1);
    assert_eq!((sent.src, sent.dst), (Some(address(1)), Some(address(2))));
    assert_eq!((sent.value, sent.fwd_fee, sent.created_lt), (77, 5, 43));
    assert_eq!((sent.bounced, sent.init, &sent.body), (true, true, &body));
    assert_eq!(sent.hash, out.repr_hash().0);
}

#[test]
fn external_messages_have_one_end() {
    let external = External::new(address(3), None, Cell::default()).unwrap();
    let inward = parse_message(&external.cell).unwrap();
    assert_eq!((inward.src, inward.dst), (None, Some(address(3))));
    let outward = OwnedMessage {
        info: MsgInfo::ExtOut(ExtOutMsgInfo {
            src: StdAddr::from(address(4)).into(),
            dst: None,
            created_lt: 7,
            created_at: 8,
        }),
        init: None,
        body: Cell::default().into(),
        layout: None,
    };
    let outward = parse_message(&CellBuilder::build_from(&outward).unwrap()).unwrap();
    assert_eq!((outward.src, outward.dst), (Some(address(4)), None));
    assert_eq!((outward.created_lt, outward.value), (7, 0));
}

#[test]
fn stack_values_convert_only_when_they_fit() {
    assert_eq!(StackValue::int(-1).as_i64(), Some(-1));
    assert_eq!(StackValue::int(-1).as_u128(), None);
    assert_eq!(StackValue::int(-1).as_u256(), None);
    assert_eq!(StackValue::u256(&[0xff; 32]).as_u256(), Some([0xff; 32]));
    assert_eq!(StackValue::u256(&[0xff; 32]).as_u128(), None);
    assert_eq!(StackValue::u256(&[0; 32]).as_u256(), Some([0; 32]));
    let slice = CellBuilder::build_from(StdAddr::from(address(5))).unwrap();
    assert_eq!(StackValue::Slice(slice).as_address(), Some(address(5)));
    assert_eq!(StackValue::Slice(Cell::default()).as_address(), None);
    let rejected = ChainError::Rejected {
        reason: "not accepted".into(),
        exit_code: Some(1032),
    };
    assert!(!rejected.is_retryable() && ChainError::Timeout(String::new()).is_retryable());
    assert!(rejected.to_string().ends_with("(exit code 1032)"));
}
