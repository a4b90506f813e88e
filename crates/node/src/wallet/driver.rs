//! Runs the wallet's state machine on a chain and the tokio clock.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cocoon_ton::{Address, Chain, ChainError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::core::{Answer, Call, Core, Effect, Event, PAGE};
use super::{Condition, Request, Sent, WalletError, WalletStatus};

/// A chain that does not answer for this long is treated as one that cannot be reached.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The same kind of trouble is not reported more often than this.
const WARN_EVERY: Duration = Duration::from_secs(60);

type Running = Pin<Box<dyn Future<Output = Answer> + Send>>;

pub(super) async fn run(
    mut core: Core,
    chain: Arc<dyn Chain>,
    mut requests: mpsc::Receiver<Request>,
    status: watch::Sender<WalletStatus>,
) {
    let address = core.address();
    let start = Instant::now();
    let mut waiting: HashMap<u64, oneshot::Sender<Result<Sent, WalletError>>> = HashMap::new();
    let mut next_id = 0u64;
    let mut running: Option<Running> = None;
    let mut open = true;
    let mut reporter = Reporter::new(address);
    let mut event = Event::Tick;
    loop {
        for effect in core.handle(start.elapsed(), event) {
            match effect {
                Effect::Call(call) => running = Some(perform(Arc::clone(&chain), address, call)),
                Effect::Done { id, result } => {
                    if let Some(done) = waiting.remove(&id) {
                        // Whoever dropped the future does not want to know.
                        let _ = done.send(result);
                    }
                }
            }
        }
        let now = core.status();
        reporter.report(&now);
        status.send_if_modified(|old| {
            let changed = *old != now;
            *old = now;
            changed
        });
        if core.is_finished() {
            return;
        }
        let wake = core.wake_at().map(|at| start + at);
        event = tokio::select! {
            // Requests first, so that messages asked for at the same time leave in the same batch.
            biased;
            request = requests.recv(), if open => match request {
                Some(Request::Send { message, done }) => {
                    next_id += 1;
                    waiting.insert(next_id, done);
                    Event::Submit { id: next_id, message }
                }
                // The channel closes when the last handle is gone.
                Some(Request::Close) | None => {
                    open = false;
                    requests.close();
                    Event::Close
                }
            },
            answer = wait(&mut running) => {
                running = None;
                Event::Answer(answer)
            }
            () = sleep(wake) => Event::Tick,
        };
        // Requests that were in the channel when it was closed get an answer, too.
        if !open {
            while let Ok(request) = requests.try_recv() {
                if let Request::Send { done, .. } = request {
                    let _ = done.send(Err(WalletError::Closed));
                }
            }
        }
    }
}

async fn wait(running: &mut Option<Running>) -> Answer {
    match running {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn perform(chain: Arc<dyn Chain>, address: Address, call: Call) -> Running {
    Box::pin(async move {
        match call {
            Call::Account => Answer::Account(limited(chain.account(&address)).await),
            Call::Network => Answer::Network(limited(chain.network()).await),
            Call::Transactions { after_lt } => {
                Answer::Transactions(limited(chain.transactions(&address, after_lt, PAGE)).await)
            }
            Call::Send(boc) => Answer::Sent(limited(chain.send(boc)).await.map(|_| ())),
        }
    })
}

async fn limited<T>(call: impl Future<Output = Result<T, ChainError>>) -> Result<T, ChainError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| {
        Err(ChainError::Timeout(format!(
            "no answer within {} s",
            CALL_TIMEOUT.as_secs()
        )))
    })
}

/// Tells the log when the wallet's condition changes, without repeating itself.
struct Reporter {
    address: Address,
    last: Condition,
    warned: Option<Instant>,
    was_low: bool,
}

impl Reporter {
    fn new(address: Address) -> Self {
        Self {
            address,
            last: Condition::Starting,
            warned: None,
            was_low: false,
        }
    }

    fn report(&mut self, status: &WalletStatus) {
        let (address, condition) = (self.address, &status.condition);
        if *condition != self.last {
            let same_kind = std::mem::discriminant(condition) == std::mem::discriminant(&self.last);
            let recently = self.warned.is_some_and(|at| at.elapsed() < WARN_EVERY);
            if *condition == Condition::Ready {
                if recently {
                    tracing::debug!(%address, "the wallet is ready again");
                } else {
                    tracing::info!(%address, balance = %status.balance, "the wallet is ready");
                }
            } else if same_kind || recently {
                tracing::debug!(%address, %condition, "the wallet cannot send");
            } else {
                tracing::warn!(%address, %condition, "the wallet cannot send");
                self.warned = Some(Instant::now());
            }
            self.last = condition.clone();
        }
        let low = status.is_low();
        if low && !self.was_low {
            tracing::warn!(%address, balance = %status.balance, "the wallet runs low, send coins to it soon");
        }
        self.was_low = low;
    }
}
