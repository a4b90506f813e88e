//! Our own certificate for new connections, made again in this process before it ends.
//!
//! Keys live in memory only. A new certificate is for new connections; living ones keep theirs and go on.

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use cocoon_attest::identity::CertificateMode;
use cocoon_attest::profile::{OID_QUOTE, VALIDITY_SECONDS};
use cocoon_attest::{IdentityError, QuoteSource, TlsIdentity, unix_now};
use tracing::{info, warn};

/// A certificate with a quote of hardware is made again when it is this old, as often as the reference's guests do it:
/// a key that leaks is of use for as long as its certificate. It stays valid for a day, so a quoting service may be
/// away for most of one before peers refuse us.
pub const ATTESTED_AGE: u64 = 3_600;
/// Between looks at the age.
const LOOK: Duration = Duration::from_secs(60);
/// Between tries while no quote can be had.
const RETRY: Duration = Duration::from_secs(300);

/// A TLS identity that renews itself before its certificate ends.
#[derive(Clone)]
pub struct IdentityCell {
    state: Arc<State>,
    /// Dropped with the last copy, which ends the thread that renews.
    _stop: Option<Arc<mpsc::Sender<()>>>,
}

struct State {
    current: Mutex<TlsIdentity>,
    source: Source,
}

enum Source {
    /// Made in a moment.
    Own(CertificateMode),
    /// Hardware, which may take seconds and may be away.
    Quotes(Arc<dyn QuoteSource>),
}

impl fmt::Debug for IdentityCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentityCell")
            .field(&*self.state.current())
            .finish()
    }
}

impl IdentityCell {
    /// Starts with an identity without a quote or with a fake one; later ones are of the same kind.
    pub fn new(identity: TlsIdentity) -> Self {
        let quoted = identity
            .certificate_der()
            .windows(OID_QUOTE.len())
            .any(|w| w == OID_QUOTE);
        let mode = if quoted {
            CertificateMode::FakeTdx
        } else {
            CertificateMode::None
        };
        IdentityCell {
            state: Arc::new(State {
                current: Mutex::new(identity),
                source: Source::Own(mode),
            }),
            _stop: None,
        }
    }

    /// Takes a quote for a fresh key at `now`, in Unix seconds, and again and again on a thread of its own until the last
    /// copy is dropped.
    ///
    /// Blocks like the source: for a second, or for up to a minute while the machine is busy.
    pub fn attested(source: Arc<dyn QuoteSource>, now: u64) -> Result<Self, IdentityError> {
        let identity = TlsIdentity::attested(&*source, now)?;
        let state = Arc::new(State {
            current: Mutex::new(identity),
            source: Source::Quotes(source),
        });
        let (stop, stopped) = mpsc::channel();
        let weak = Arc::downgrade(&state);
        std::thread::spawn(move || keep_fresh(&weak, &stopped));
        Ok(IdentityCell {
            state,
            _stop: Some(Arc::new(stop)),
        })
    }

    /// The identity to use now. Never waits for hardware.
    pub fn get(&self) -> TlsIdentity {
        if let Source::Own(_) = self.state.source
            && let Err(e) = self.renew_if_due(unix_now())
        {
            warn!("the TLS identity could not be renewed: {e}");
        }
        self.state.current().clone()
    }

    /// Makes a new identity if the present one is old enough at `now`, in Unix seconds; says whether it did.
    ///
    /// On an error the old one stays in use. Blocks like [`Self::attested`]; a node need not call it.
    pub fn renew_if_due(&self, now: u64) -> Result<bool, IdentityError> {
        self.state.renew_if_due(now)
    }
}

impl State {
    fn current(&self) -> MutexGuard<'_, TlsIdentity> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew_if_due(&self, now: u64) -> Result<bool, IdentityError> {
        let fresh = match &self.source {
            Source::Own(mode) => {
                let due = self.current().needs_renewal(now);
                due.then(|| TlsIdentity::generate(*mode, now)).transpose()?
            }
            // The lock is not held meanwhile: connections go on with the old one.
            Source::Quotes(source) => {
                let due = self.left(now) < (VALIDITY_SECONDS - ATTESTED_AGE) as i64;
                due.then(|| TlsIdentity::attested(&**source, now))
                    .transpose()?
            }
        };
        let renewed = fresh.is_some();
        if let Some(fresh) = fresh {
            *self.current() = fresh;
        }
        Ok(renewed)
    }

    /// Seconds for which peers still take the present certificate; negative if they do not.
    fn left(&self, now: u64) -> i64 {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.current().not_after().0.saturating_sub(now)
    }
}

fn keep_fresh(state: &Weak<State>, stopped: &mpsc::Receiver<()>) {
    let mut pause = LOOK;
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
        let Some(state) = state.upgrade() else { return };
        let now = unix_now();
        pause = LOOK;
        match state.renew_if_due(now) {
            Ok(true) => info!("the certificate was made again with a fresh quote"),
            Ok(false) => {}
            Err(e) => {
                pause = RETRY;
                match state.left(now) {
                    left @ 1.. => warn!(
                        "no fresh quote: {e}; the present certificate is good for {} more minutes",
                        left / 60
                    ),
                    _ => warn!("no fresh quote, and peers refuse the old one: {e}"),
                }
            }
        }
    }
}
