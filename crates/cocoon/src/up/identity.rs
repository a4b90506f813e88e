//! Keys and owners of the network: made on the first start, the same ever after.

use cocoon_ton::abi::StateInit;
use cocoon_ton::mnemonic::Mnemonic;
use cocoon_ton::{Address, boc};
use ed25519_dalek::SigningKey;

use super::founding::{self, Funded, OWNER_COINS};
use super::settings::Settings;
use crate::contracts::Contracts;
use crate::datadir::{DataDir, Founding, Layout};
use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, read_small, write_atomic};
use crate::keys::{self, Keys, Missing};

/// The public half.
pub fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

/// Keys and owners: made on the first start, the same ever after.
pub async fn identity(
    data: &DataDir,
    settings: &Settings,
    contracts: &Contracts,
) -> Result<(Keys, Founding, StateInit)> {
    let dir = data.layout().keys();
    let missing = if data.founding().is_some() {
        Missing::Refuse
    } else {
        Missing::Create
    };
    keys::create_dir(&dir)?;
    let keys = Keys::load(&dir, missing)?;
    let owner = match &settings.owner_words {
        Some(path) => Some(owner_address(contracts, keys::read_mnemonic(path)?).await?),
        None => None,
    };
    if let Some(founding) = data.founding() {
        if let Some(owner) = owner
            && owner != founding.proxy_owner
        {
            return Err(CliError::usage(
                "the owner does not fit the network in this data directory; nothing was changed",
            )
            .expected(format!(
                "the words of {}",
                founding.proxy_owner.to_text(false, true)
            ))
            .found(format!("those of {}", owner.to_text(false, true)))
            .hint(
                "leave --owner-mnemonic-file out, or found another network with --data-dir DIR",
            ));
        }
        let root_init = founding::saved_root(founding)?;
        return Ok((keys, founding.clone(), root_init));
    }
    let [proxy_owner, worker_owner, client_owner] = match owner {
        Some(owner) => [owner; 3],
        None => {
            let mut owners = [Address::default(); 3];
            for (place, file) in owners.iter_mut().zip(OWNER_FILES) {
                *place = owner_address(contracts, keys::words(&dir, file, missing)?).await?;
            }
            owners
        }
    };
    let governor = contracts.wallet(public(&keys.faucet), None)?.address;
    let unique_id = rand::random();
    let root_init = founding::new_root(contracts, settings, governor, unique_id)?;
    let founding = Founding {
        root: root_init.address,
        root_init: hex::encode(boc::encode(&root_init.cell)),
        wallet_code: hex::encode(boc::encode(&contracts.wallet)),
        proxy_owner,
        worker_owner,
        client_owner,
    };
    Ok((keys, founding, root_init))
}

/// Words of the owners' wallets, made unless the owner brings his own.
const OWNER_FILES: [&str; 3] = [
    "proxy-owner.words",
    "worker-owner.words",
    "client-owner.words",
];

/// The wallet of 24 words. Deriving the key takes a moment of pure computing.
async fn owner_address(contracts: &Contracts, mnemonic: Mnemonic) -> Result<Address> {
    let key = tokio::task::spawn_blocking(move || mnemonic.to_keypair())
        .await
        .map_err(|e| CliError::new("cannot derive a key").found(e.to_string()))?;
    Ok(contracts.wallet(public(&key), None)?.address)
}

/// The wallets of owners that were made here; deployed with coins, so that they can act at once.
pub async fn owner_wallets(
    layout: &Layout,
    contracts: &Contracts,
    founding: &Founding,
) -> Result<Vec<Funded>> {
    let owners = [
        founding.proxy_owner,
        founding.worker_owner,
        founding.client_owner,
    ];
    let names = ["proxy owner's", "worker owner's", "client owner's"];
    let mut wallets = Vec::new();
    for ((address, name), file) in owners.into_iter().zip(names).zip(OWNER_FILES) {
        // A marker beside the words saves every later start the derivation of the key.
        let path = layout.keys().join(file);
        let marker = layout.keys().join(format!("{file}.public"));
        if !path.exists() {
            continue;
        }
        let known = read_small(&marker)?
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| hex::decode(text.trim()).ok())
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let key = match known {
            Some(key) => key,
            None => {
                let mnemonic = keys::read_mnemonic(&path)?;
                let key = tokio::task::spawn_blocking(move || mnemonic.to_keypair())
                    .await
                    .map_err(|e| CliError::new("cannot derive a key").found(e.to_string()))?;
                let key = public(&key);
                write_atomic(&marker, hex::encode(key).as_bytes(), PUBLIC_MODE)?;
                key
            }
        };
        let init = contracts.wallet(key, None)?;
        // Words that were put there by hand belong to another wallet.
        if init.address == address {
            wallets.push(Funded {
                name,
                init,
                coins: OWNER_COINS,
                deploy: true,
            });
        }
    }
    Ok(wallets)
}
