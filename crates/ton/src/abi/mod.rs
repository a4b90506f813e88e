//! The contracts' ABI: storage cells, message bodies, signed payloads and addresses.

mod codec;
pub mod deploy;
mod error;
pub mod message;
pub mod net_address;
pub mod op;
pub mod params;
pub mod request;
pub mod root;
pub mod signed;
pub mod state;

pub(crate) use codec::{Reader, Writer};
pub use deploy::{
    StateInit, address_from_hashes, client_init, proxy_init, root_init, state_init, wallet_init,
    worker_init,
};
pub use error::AbiError;
pub use message::{
    ClientMessage, OwnerMessage, ProxyMessage, RootMessage, SaveState, TextCommand, WalletMessage,
    WorkerMessage,
};
pub use net_address::{NetAddress, NetAddressError, ProxyEndpoints};
pub use params::Params;
pub use request::{ClientLedger, ClientRequestPayload, WorkerRequestPayload};
pub use root::{KeyEntry, KeyRegistry, RootState};
pub use signed::{Envelope, KeyPayload, Payload, SignatureError, SignedOp, SignedPayload};
pub use state::{ClientState, ContractStatus, ProxyState, WalletState, WorkerState};
