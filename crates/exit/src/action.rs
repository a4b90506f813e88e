//! What an owner can tell his client contract, as typed values.

use cocoon_ton::abi::{AbiError, ClientMessage, Envelope};
use cocoon_ton::amount::NANO_PER_TON;
use cocoon_ton::{Address, Cell, CellBuilder};

/// Coins attached to a message beside what it moves, in nanoTON. The contract asks for 0.1 TON; what is left comes
/// back.
pub const ATTACHED: u128 = NANO_PER_TON * 3 / 10;

/// Our client contract sends its own leftover coins to its owner when it is closed (contracts/README.md). Others answer
/// with exit code 1012.
pub const SWEEP: u32 = 0x4d7a_36c8;

/// A message to the client contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take out what exceeds the client's stake.
    Withdraw,
    /// First step: close, and take out what exceeds the stake.
    RequestRefund,
    /// Second step, after the delay: take the rest out of the proxy's stake.
    ForceRefund,
    /// Present a refund that the proxy has signed.
    GrantRefund(Envelope),
    /// Take the closed contract's own coins.
    Sweep,
    /// Deposit.
    TopUp {
        /// NanoTON.
        coins: u128,
    },
    /// Raise the client's stake.
    IncreaseStake {
        /// The whole new stake in nanoTON.
        new_stake: u128,
    },
}

impl Action {
    /// Coins to attach, in nanoTON.
    pub fn value(&self) -> u128 {
        match self {
            Self::TopUp { coins } => coins.saturating_add(ATTACHED),
            _ => ATTACHED,
        }
    }

    /// The message body; what is left of the coins goes to `wallet`.
    pub fn body(&self, wallet: Address, query_id: u64) -> Result<Cell, AbiError> {
        let excess_to = wallet;
        let message = match self {
            Self::Withdraw => ClientMessage::Withdraw {
                query_id,
                excess_to,
            },
            Self::RequestRefund | Self::ForceRefund => ClientMessage::RequestRefund {
                query_id,
                excess_to,
            },
            Self::GrantRefund(envelope) => {
                return envelope.with_receiver(excess_to).encode();
            }
            Self::Sweep => {
                let mut body = CellBuilder::new();
                return body
                    .store_u32(SWEEP)
                    .and_then(|()| body.store_u64(query_id))
                    .and_then(|()| body.build())
                    .map_err(|source| AbiError::Field {
                        field: "sweep",
                        source,
                    });
            }
            Self::TopUp { coins } => ClientMessage::TopUp {
                query_id,
                coins: *coins,
                excess_to,
            },
            Self::IncreaseStake { new_stake } => ClientMessage::IncreaseStake {
                query_id,
                new_stake: *new_stake,
                excess_to,
            },
        };
        message.encode()
    }

    /// In words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Withdraw => "withdraw above the stake",
            Self::RequestRefund => "request refund",
            Self::ForceRefund => "force refund",
            Self::GrantRefund(_) => "present the granted refund",
            Self::Sweep => "take the contract's own coins",
            Self::TopUp { .. } => "top up",
            Self::IncreaseStake { .. } => "increase stake",
        }
    }
}
