//! Every constructor by id: names for logs, and a way to read and write any object.

use cocoon_tl::{Boxed, Constructor, TlError, from_boxed, peek_id, to_boxed};

use super::{
    client, common, db, http, key_manager, key_manager_db, market, proxy, root_config,
    runner_config, tcp, worker,
};

/// What is known of one constructor.
pub struct Entry {
    /// The constructor id.
    pub id: u32,
    /// The name in the scheme.
    pub name: &'static str,
    /// The declaration in the scheme.
    pub declaration: &'static str,
    /// The Rust fields in wire order.
    pub fields: &'static [&'static str],
    /// Reads a boxed object of this constructor and writes it again: the way to check bytes of a type that
    /// is only known at run time.
    pub rewrite: fn(&[u8]) -> Result<Vec<u8>, TlError>,
}

const fn entry<T: Constructor + Boxed>() -> Entry {
    Entry {
        id: T::ID,
        name: T::NAME,
        declaration: T::DECL,
        fields: T::FIELDS,
        rewrite: |data| Ok(to_boxed(&from_boxed::<T>(data)?)),
    }
}

/// The constructors of the reference's scheme, then our own of protocol version 3.
pub const CONSTRUCTORS: &[Entry] = &[
    entry::<tcp::Ping>(),
    entry::<tcp::Pong>(),
    entry::<tcp::Packet>(),
    entry::<tcp::QueryAnswer>(),
    entry::<tcp::QueryError>(),
    entry::<tcp::Query>(),
    entry::<tcp::Connected>(),
    entry::<tcp::Connect>(),
    entry::<client::Params>(),
    entry::<client::ProxyConnectionAuthShort>(),
    entry::<client::ProxyConnectionAuthLong>(),
    entry::<client::AuthorizationWithProxySuccess>(),
    entry::<client::AuthorizationWithProxyFailed>(),
    entry::<client::ConnectedToProxy>(),
    entry::<client::QueryAnswer>(),
    entry::<client::QueryAnswerError>(),
    entry::<client::QueryAnswerPart>(),
    entry::<client::QueryAnswerPartError>(),
    entry::<client::QueryFinalInfo>(),
    entry::<client::QueryAnswerEx>(),
    entry::<client::QueryAnswerErrorEx>(),
    entry::<client::QueryAnswerPartEx>(),
    entry::<client::Refund>(),
    entry::<client::RefundRejected>(),
    entry::<client::WorkerType>(),
    entry::<client::WorkerTypes>(),
    entry::<client::WorkerInstanceV2>(),
    entry::<client::WorkerTypeV2>(),
    entry::<client::WorkerTypesV2>(),
    entry::<client::PaymentStatus>(),
    entry::<client::ConnectToProxy>(),
    entry::<client::AuthorizeWithProxyShort>(),
    entry::<client::AuthorizeWithProxyLong>(),
    entry::<client::RunQuery>(),
    entry::<client::RunQueryEx>(),
    entry::<client::RequestRefund>(),
    entry::<client::UpdatePaymentStatus>(),
    entry::<client::GetWorkerTypes>(),
    entry::<client::GetWorkerTypesV2>(),
    entry::<client::CancelQuery>(),
    entry::<market::RunQueryRouted>(),
    entry::<market::GetWorkerTypesV3>(),
    entry::<market::WorkerInstanceV3>(),
    entry::<market::WorkerTypeV3>(),
    entry::<market::WorkerTypesV3>(),
    entry::<proxy::Params>(),
    entry::<proxy::ClientRequestPayment>(),
    entry::<proxy::SignedPaymentData>(),
    entry::<proxy::SignedPaymentEmpty>(),
    entry::<proxy::QueryAnswer>(),
    entry::<proxy::QueryAnswerError>(),
    entry::<proxy::QueryAnswerPart>(),
    entry::<proxy::QueryAnswerPartError>(),
    entry::<proxy::QueryFinalInfo>(),
    entry::<proxy::QueryAnswerEx>(),
    entry::<proxy::QueryAnswerErrorEx>(),
    entry::<proxy::QueryAnswerPartEx>(),
    entry::<proxy::WorkerRequestPayment>(),
    entry::<proxy::RunQuery>(),
    entry::<proxy::RunQueryEx>(),
    entry::<proxy::CancelQuery>(),
    entry::<worker::Params>(),
    entry::<worker::EnabledDisabled>(),
    entry::<worker::NewCoefficient>(),
    entry::<worker::ConnectedToProxy>(),
    entry::<worker::CompareBalanceWithProxyResult>(),
    entry::<worker::ExtendedCompareBalanceWithProxyResult>(),
    entry::<worker::ProxyHandshakeCompleted>(),
    entry::<worker::PaymentStatus>(),
    entry::<worker::ConnectToProxy>(),
    entry::<worker::CompareBalanceWithProxy>(),
    entry::<worker::ExtendedCompareBalanceWithProxy>(),
    entry::<worker::ProxyHandshakeComplete>(),
    entry::<worker::UpdatePaymentStatus>(),
    entry::<common::TokensUsed>(),
    entry::<common::TestAnswer>(),
    entry::<common::TestQuery>(),
    entry::<key_manager::PrivateKey>(),
    entry::<key_manager::PrivateKeys>(),
    entry::<key_manager::GetWorkerPrivateKeys>(),
    entry::<key_manager::GetProxyPrivateKeys>(),
    entry::<http::Header>(),
    entry::<http::Response>(),
    entry::<http::Request>(),
    entry::<db::BlockIdExt>(),
    entry::<db::ClientInfo>(),
    entry::<db::ClientInfoV2>(),
    entry::<db::WorkerInfo>(),
    entry::<db::PendingBlockchainSeqnoCommit>(),
    entry::<db::ConfigEmpty>(),
    entry::<db::ConfigV4>(),
    entry::<db::ConfigV4Disabled>(),
    entry::<db::OldClient>(),
    entry::<db::OldWorker>(),
    entry::<db::OldInstance>(),
    entry::<runner_config::ProxyRunnerConfig>(),
    entry::<runner_config::WorkerRunnerConfig>(),
    entry::<runner_config::ClientRunnerConfig>(),
    entry::<runner_config::KeyStorageRunnerConfig>(),
    entry::<root_config::RegisteredProxy>(),
    entry::<root_config::Pseudo>(),
    entry::<root_config::ConfigV5>(),
    entry::<key_manager_db::ConfigEmpty>(),
    entry::<key_manager_db::ConfigV1>(),
    entry::<key_manager_db::Key>(),
];

/// The entry of a constructor id.
pub fn find(id: u32) -> Option<&'static Entry> {
    CONSTRUCTORS.iter().find(|entry| entry.id == id)
}

/// A name for a boxed object in logs and errors: its constructor, or its first bytes.
pub fn describe(object: &[u8]) -> String {
    match peek_id(object) {
        None => format!("{} bytes without a constructor", object.len()),
        Some(id) => match find(id) {
            Some(entry) => entry.name.to_owned(),
            None => format!("unknown constructor 0x{id:08x}"),
        },
    }
}
