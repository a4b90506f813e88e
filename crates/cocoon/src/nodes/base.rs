//! What every node program does before its role begins: configuration, data directory, log, keys, chain.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cocoon_attest::Policy;
use cocoon_node::claims::ClaimsSettings;
use cocoon_node::peers::{IdentityCell, Way};
use cocoon_node::reference_json::FieldError;
use cocoon_node::root::RootView;
use cocoon_node::wallet::WalletHandle;
use cocoon_node::{Settlement, Timing};
use cocoon_ton::amount::format_ton;
use ed25519_dalek::SigningKey;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::chain::{self, Source};
use super::config::{self, Shared};
use super::evidence::{self, Attestation};
use super::keyring::Keyring;
use super::node_file::NodeFile;
use super::otlp::Collector;
use super::start::{self, Common};
use crate::cli::{Global, NodeArgs, Settle};
use crate::datadir::{DataDir, Layout};
use crate::error::{CliError, Result};
use crate::fs::read_small;
use crate::{keys, logging};

/// Between words about a wallet that lacks coins.
const REMIND: Duration = Duration::from_secs(30);
/// Between looks at a file with the root configuration, and at the chain through a server on this machine.
const ROOT_POLL: Duration = Duration::from_secs(2);
/// Between looks at own contracts where everything shall settle within seconds.
const FAST_POLL: Duration = Duration::from_millis(500);

/// A configuration file as text.
pub struct ConfigFile {
    path: PathBuf,
    text: Zeroizing<String>,
}

impl ConfigFile {
    /// Reads `--config FILE`, or the role's usual file in the working directory.
    pub fn read(global: &Global, role: &str) -> Result<Self> {
        let path = global
            .config
            .clone()
            .unwrap_or_else(|| format!("{role}-config.json").into());
        let missing = || {
            CliError::usage(format!("there is no configuration file {}", path.display()))
                .expected(format!("a JSON object with the settings of a {role}"))
                .hint(format!(
                    "name it with --config FILE; 'cocoon {role} --help' lists its members"
                ))
        };
        // Keys may stand in it.
        let bytes = Zeroizing::new(read_small(&path)?.ok_or_else(missing)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            CliError::usage(format!("{} is not text", path.display()))
                .expected("a JSON object in UTF-8")
        })?;
        let text = Zeroizing::new(text.to_owned());
        Ok(Self { path, text })
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What is wrong with it, for people.
    pub fn wrong(&self, error: &FieldError) -> CliError {
        CliError::usage(format!(
            "the configuration {} is wrong at {}; nothing was changed",
            self.path.display(),
            error.place
        ))
        .expected(error.expected.clone())
        .found(error.found.clone())
    }

    /// What is to be said of it once there is a log; `secrets` if a key stands in it.
    pub fn after_log(&self, secrets: bool, unread: &[String]) {
        if !unread.is_empty() {
            tracing::warn!(
                "{}: these members mean nothing here and are ignored: {}",
                self.path.display(),
                unread.join(", ")
            );
        }
        if secrets {
            keys::warn_if_open(&self.path);
        }
    }
}

/// A node that is about to start.
pub struct Base {
    /// Its role.
    pub role: &'static str,
    /// When the program began.
    pub began: Instant,
    /// Members of the file, flags included.
    pub shared: Shared,
    /// Its data, held.
    pub data: DataDir,
    /// Its secrets.
    pub keyring: Keyring,
    /// Where its contracts are.
    pub settlement: Settlement,
    /// Its wallet, if there is a chain.
    pub wallet: Option<WalletHandle>,
    /// Name of the source, for the ready line.
    pub source: Source,
    /// Where the HTTP interface listens.
    pub http_listen: Ipv4Addr,
    /// Where its spans go, if anywhere.
    pub collector: Option<Collector>,
    settle: Settle,
    /// What verifies genuine evidence, if any is to be.
    armed: OnceLock<evidence::Armed>,
}

/// What is known before anything is touched.
pub struct Plan {
    /// Its role.
    pub role: &'static str,
    /// The file.
    pub file: ConfigFile,
    /// Its members.
    pub shared: Shared,
    /// Names of those that mean nothing.
    pub unread: Vec<String>,
    /// The file's own data directory.
    pub data_dir: Option<PathBuf>,
}

impl Plan {
    /// Takes the data directory, starts the log, reads or makes the keys, and opens the chain.
    pub async fn open(mut self, args: &NodeArgs, global: &Global) -> Result<Base> {
        let began = Instant::now();
        let shared = &mut self.shared;
        shared.check_hashes |= args.check_hashes;
        shared.http_port = args.http_port.unwrap_or(shared.http_port);
        if args.collateral.is_some() || args.collateral_service.is_some() {
            let config = shared.collateral.get_or_insert_default();
            config.directory = args.collateral.clone().or(config.directory.take());
            config.service = args.collateral_service.clone().or(config.service.take());
        }
        if let Some(path) = &args.evidence_policy {
            shared.evidence_policy = Some(path.display().to_string());
        }
        let source = source(args, shared, &self.file)?;
        let collector = args.otlp.as_deref().map(Collector::parse).transpose()?;
        let level = log_level(args, global);
        logging::check(level.as_deref())?;
        let asked = global.data_dir.clone().or(self.data_dir);
        let layout = Layout::locate_or(asked.as_deref(), &format!("cocoon-{}", self.role))?;
        let data = DataDir::open_as(layout, Some(self.role))?;
        logging::init(
            level.as_deref(),
            Some(&data.layout().logs()),
            global.log_format,
        )?;
        // What a killed process left behind speaks of nobody.
        NodeFile::remove(data.layout());
        self.file
            .after_log(self.shared.wallet_key.is_some(), &self.unread);
        let keyring = Keyring::open(data.layout(), self.role)?;
        let key: SigningKey = keyring.key(self.shared.wallet_key.as_ref(), "wallet.key")?;
        let opened = chain::open(&source, self.shared.root, &key, self.shared.owner).await?;
        if let Some(wallet) = &opened.wallet {
            await_coins(wallet, self.shared.testnet).await?;
        }
        Ok(Base {
            role: self.role,
            began,
            shared: self.shared,
            data,
            keyring,
            settlement: opened.settlement,
            wallet: opened.wallet,
            source,
            http_listen: args.http_listen.unwrap_or(Ipv4Addr::LOCALHOST),
            collector,
            settle: args.settle.unwrap_or(Settle::Reference),
            armed: OnceLock::new(),
        })
    }
}

/// Where the root configuration is: the flag's word, or the file's.
pub fn source(args: &NodeArgs, shared: &Shared, file: &ConfigFile) -> Result<Source> {
    match (&args.disable_ton, &args.chain, &shared.chain) {
        (Some(path), _, _) => Ok(Source::Static(path.clone())),
        (None, Some(text), _) => Source::parse(text, "--chain"),
        (None, None, Some(text)) => {
            Source::parse(text, &format!("{} (chain)", file.path.display()))
        }
        (None, None, None) => Err(CliError::usage("no chain was named")
            .expected("--chain static:FILE, or --chain toncenter:http://HOST:PORT")
            .found("neither the flag nor 'chain' in the configuration")
            .hint("a light client of the TON network is not in this build")),
    }
}

/// The reference's numbers, or ours.
pub fn log_level(args: &NodeArgs, global: &Global) -> Option<String> {
    let of_number = args.verbosity.map(|n| match n {
        0 | 1 => "error",
        2 => "warn",
        3 => "info",
        4 => "debug",
        _ => "trace",
    });
    global.log.clone().or(of_number.map(str::to_owned))
}

/// A node does nothing before its wallet can pay for messages (protocol.md 9.7).
async fn await_coins(wallet: &WalletHandle, testnet: bool) -> Result<()> {
    let ready = wallet.ready();
    tokio::pin!(ready);
    let mut remind = tokio::time::interval(REMIND);
    remind.tick().await;
    let mut first = true;
    loop {
        let patience = if first {
            tokio::time::sleep(Duration::from_secs(3))
        } else {
            tokio::time::sleep(REMIND)
        };
        tokio::select! {
            done = &mut ready => {
                return done.map_err(|e| CliError::new("the wallet stopped").found(e.to_string()));
            }
            () = patience => {
                first = false;
                let status = wallet.status();
                eprintln!(
                    "waiting for coins: the wallet {} has {}, it needs {}",
                    wallet.address().to_text(false, testnet),
                    format_ton(status.balance),
                    format_ton(cocoon_ton::wallet::MIN_BALANCE),
                );
            }
        }
    }
}

impl Base {
    /// For [`super::start`].
    pub fn common(&self) -> Common {
        Common {
            settlement: self.settlement.clone(),
            dir: self.data.layout().path().to_owned(),
            is_test: self.shared.is_test,
            testnet: self.shared.testnet,
            check_hashes: self.shared.check_hashes,
            settle: self.settle,
            claims: ClaimsSettings {
                require: self.shared.require_claims,
                ..ClaimsSettings::default()
            },
            timing: Timing {
                root_poll: ROOT_POLL,
                account_poll: match self.settle {
                    Settle::Fast => FAST_POLL,
                    Settle::Reference => Timing::default().account_poll,
                },
                ..Timing::default()
            },
        }
    }

    /// The root configuration as it is now.
    pub async fn root(&self) -> Result<RootView> {
        self.settlement
            .read_root(self.shared.is_test, &[])
            .await
            .map_err(|e| {
                CliError::new("the root configuration cannot be used").found(e.to_string())
            })
    }

    /// What peers must prove that are attested in this process.
    pub fn policy(&self) -> Result<Policy> {
        match evidence::attestation(&self.shared)? {
            Attestation::Fake => {
                evidence::nothing_to_verify(&self.shared).map(|()| start::fake_policy())
            }
            Attestation::Tdx => {
                // One verifier and one store of collateral for all links of this process.
                if let Some(armed) = self.armed.get() {
                    return Ok(armed.policy.clone());
                }
                let armed = evidence::tdx_policy(&self.shared)?;
                Ok(self.armed.get_or_init(|| armed).policy.clone())
            }
        }
    }

    /// Reads the demands on evidence again. Living peers that fail them lose their links at once.
    pub fn reload(&self) {
        let outcome = match self.armed.get() {
            Some(armed) => armed.reload(&self.shared),
            None => Ok(false),
        };
        match outcome {
            Ok(true) => tracing::info!("collateral and demands on evidence were read again"),
            Ok(false) => tracing::info!("nothing to read again: no evidence is verified here"),
            Err(error) => tracing::warn!("nothing was changed: {error}"),
        }
    }

    /// Our own certificate towards peers that are attested in this process. A client proves nothing unless told to.
    pub fn identity(&self) -> Result<IdentityCell> {
        let proof = evidence::proof(&self.shared, self.role == "client")?;
        // Hardware may take its time, and nothing else runs yet.
        tokio::task::block_in_place(|| start::identity(proof))
    }

    /// The way to proxies: through the router that was named, or directly.
    pub fn way(&self, flag: Option<&str>, configured: Option<&str>) -> Result<Way> {
        let router = match flag {
            Some("direct") => None,
            Some(text) if config::is_host_port(text) => Some(text),
            Some(text) => {
                return Err(CliError::usage("cannot use --router")
                    .expected("HOST:PORT of a router's SOCKS5 port, or 'direct'")
                    .found(format!("{text:?}")));
            }
            None => configured,
        };
        match router {
            Some(router) => Ok(Way::Router {
                router: router.to_owned(),
                allow_fake: self.shared.is_test,
                user: self.shared.router_uid,
            }),
            None => Ok(start::direct(self.identity()?, self.policy()?)),
        }
    }

    /// Binds the HTTP interface, if the node is to have one.
    pub fn http(&self) -> Result<Option<(u16, TcpListener)>> {
        match self.shared.http_port {
            0 => Ok(None),
            port => {
                listen(self.http_listen, port, "http_port").map(|listener| Some((port, listener)))
            }
        }
    }
}

/// Binds a port.
pub fn listen(ip: Ipv4Addr, port: u16, what: &str) -> Result<TcpListener> {
    let address = SocketAddrV4::new(ip, port);
    let bind = || -> std::io::Result<TcpListener> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    bind().map_err(|e| {
        CliError::new(format!("cannot listen on {address}"))
            .expected(format!("a free port for '{what}'"))
            .found(e.to_string())
            .hint(format!("see who has it: ss -ltnp 'sport = :{port}'"))
            .hint(format!("or choose another '{what}'"))
    })
}
