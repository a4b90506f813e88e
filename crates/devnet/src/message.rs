//! Builds message cells: what a test or a genesis needs to put a message on the chain.

use cocoon_ton::Address;
use tycho_types::cell::{Cell, CellBuilder, CellSliceParts, HashBytes};
use tycho_types::error::Error;
use tycho_types::models::{
    ExtInMsgInfo, IntAddr, IntMsgInfo, MessageLayout, MsgInfo, OwnedMessage, StateInit, StdAddr,
};
use tycho_types::num::Tokens;

/// An internal message to be built.
#[derive(Clone, Debug)]
pub struct InternalMessage {
    /// Sender.
    pub from: Address,
    /// Receiver.
    pub to: Address,
    /// Attached nanoTON.
    pub value: u128,
    /// Whether it should come back if the receiver fails.
    pub bounce: bool,
    /// Whether it is a message that came back.
    pub bounced: bool,
    /// StateInit cell to deploy with.
    pub state_init: Option<Cell>,
    /// Body.
    pub body: Cell,
    /// Forward fee that the header still carries.
    pub forward_fee: u128,
    /// Logical time of creation.
    pub created_lt: u64,
    /// Unix time of creation.
    pub created_at: u32,
}

impl InternalMessage {
    /// A bounceable message without StateInit and without fees, as test tools inject it.
    pub fn new(from: Address, to: Address, value: u128, body: Cell) -> Self {
        Self {
            from,
            to,
            value,
            bounce: true,
            bounced: false,
            state_init: None,
            body,
            forward_fee: 0,
            created_lt: 0,
            created_at: 0,
        }
    }

    /// The message cell. The body stays inline if it fits, as wallets write it.
    pub fn build(&self) -> Result<Cell, Error> {
        build(OwnedMessage {
            info: MsgInfo::Int(IntMsgInfo {
                ihr_disabled: true,
                bounce: self.bounce,
                bounced: self.bounced,
                src: int_address(&self.from),
                dst: int_address(&self.to),
                value: Tokens::new(self.value).into(),
                fwd_fee: Tokens::new(self.forward_fee),
                created_lt: self.created_lt,
                created_at: self.created_at,
                ..IntMsgInfo::default()
            }),
            init: parse_state_init(self.state_init.as_ref())?,
            body: CellSliceParts::from(self.body.clone()),
            layout: None,
        })
    }
}

/// An external message for a contract.
pub fn external_message(
    to: &Address,
    state_init: Option<&Cell>,
    body: Cell,
) -> Result<Cell, Error> {
    build(OwnedMessage {
        info: MsgInfo::ExtIn(ExtInMsgInfo {
            src: None,
            dst: int_address(to),
            import_fee: Tokens::ZERO,
        }),
        init: parse_state_init(state_init)?,
        body: CellSliceParts::from(body),
        layout: None,
    })
}

/// The library's own choice of a layout (tycho-types 0.3.6) forgets one bit, so a body that is just too long fails.
fn build(message: OwnedMessage) -> Result<Cell, Error> {
    let in_references = MessageLayout {
        init_to_cell: message.init.is_some(),
        body_to_cell: true,
    };
    CellBuilder::build_from(&message).or_else(|_| {
        CellBuilder::build_from(OwnedMessage {
            layout: Some(in_references),
            ..message
        })
    })
}

/// The StateInit cell of a contract with this code and data; its hash is the contract's address.
pub fn state_init(code: Cell, data: Cell) -> Result<Cell, Error> {
    CellBuilder::build_from(StateInit {
        code: Some(code),
        data: Some(data),
        ..StateInit::default()
    })
}

pub(crate) fn int_address(address: &Address) -> IntAddr {
    IntAddr::Std(StdAddr::new(address.workchain, HashBytes(address.hash)))
}

fn parse_state_init(cell: Option<&Cell>) -> Result<Option<StateInit>, Error> {
    cell.map(|cell| cell.parse::<StateInit>()).transpose()
}
