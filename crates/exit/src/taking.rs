//! Each way out taken on its copy, and what it comes to.

use cocoon_ton::abi::ContractStatus;

use crate::ExitError;
use crate::action::Action;
use crate::picture::{Ledger, Picture};
use crate::stage::{Blocked, Stage, Step};
use crate::ways::Outcome;

/// Figures at the start of a way, to compare with at its end.
struct Start {
    ledger: Ledger,
    owner: u128,
    fees: u128,
}

impl Start {
    fn of(stage: &Stage) -> Result<Self, ExitError> {
        Ok(Self {
            ledger: stage.ledger()?,
            owner: stage.coins()?[0],
            fees: stage.fees(),
        })
    }

    fn outcome(
        &self,
        stage: &Stage,
        steps: Vec<Step>,
        charged: u128,
        wait_s: Option<u32>,
    ) -> Result<Outcome, ExitError> {
        let ledger = stage.ledger()?;
        let [owner, client, _] = stage.coins()?;
        let returned = steps.iter().map(|step| step.paid).sum::<u128>();
        Ok(Outcome {
            returned,
            charged,
            lost: self
                .ledger
                .balance
                .saturating_sub(returned)
                .saturating_sub(charged)
                .saturating_sub(ledger.balance),
            ledger,
            fees: stage.fees().saturating_sub(self.fees),
            // Both fit: a chain's coins stay below 2^100.
            owner_change: owner as i128 - self.owner as i128,
            left_in_contract: client,
            wait_s,
            exact: true,
            steps,
        })
    }
}

/// Runs a step or ends the way with the reason why it fails.
macro_rules! step {
    ($stage:expr, $at:expr, $action:expr) => {
        match $stage.act($at, $action)? {
            Ok(step) => step,
            Err(blocked) => return Ok(Err(blocked)),
        }
    };
}

pub(crate) type Taken = Result<Result<Outcome, Blocked>, ExitError>;

pub(crate) fn withdraw(mut stage: Stage, now: u32) -> Taken {
    let start = Start::of(&stage)?;
    let step = step!(stage, now, &Action::Withdraw);
    start.outcome(&stage, vec![step], 0, Some(0)).map(Ok)
}

pub(crate) fn granted(mut stage: Stage, now: u32, action: Action, price: u128) -> Taken {
    let start = Start::of(&stage)?;
    let mut steps = vec![step!(stage, now, &action)];
    // What the signed total charges on the way is neither returned nor lost.
    let tokens = stage
        .ledger()?
        .tokens_used
        .saturating_sub(start.ledger.tokens_used);
    let charged = u128::from(tokens)
        .saturating_mul(price)
        .min(start.ledger.balance);
    sweep(&mut stage, now, &mut steps)?;
    start.outcome(&stage, steps, charged, Some(0)).map(Ok)
}

/// Both steps of a refund, without the proxy's node.
pub(crate) fn forced(mut stage: Stage, now: u32) -> Taken {
    let start = Start::of(&stage)?;
    let mut steps = Vec::new();
    if start.ledger.status == ContractStatus::Normal {
        steps.push(step!(stage, now, &Action::RequestRefund));
        if let Some(blocked) = came_back(&stage)? {
            return Ok(Err(blocked));
        }
    }
    // Strictly later than the unlock time (contracts.md 8.2).
    let at = stage.ledger()?.unlock_time.saturating_add(1).max(now);
    steps.push(step!(stage, at, &Action::ForceRefund));
    sweep(&mut stage, at, &mut steps)?;
    start.outcome(&stage, steps, 0, Some(at - now)).map(Ok)
}

/// Our client contract is open again if its first step comes back from the proxy contract.
fn came_back(stage: &Stage) -> Result<Option<Blocked>, ExitError> {
    let open = stage.ledger()?.status == ContractStatus::Normal;
    Ok(open.then(|| Blocked {
        step: Action::RequestRefund.name(),
        reason: "the proxy contract does not pay what exceeds the stake, the request comes back"
            .to_owned(),
    }))
}

/// The first step, and what the proxy would grant then.
pub(crate) fn ask(mut stage: Stage, picture: &Picture, used_total: Option<u64>) -> Taken {
    let start = Start::of(&stage)?;
    let now = picture.now;
    let mut steps = Vec::new();
    match start.ledger.status {
        ContractStatus::Normal => {
            steps.push(step!(stage, now, &Action::RequestRefund));
            if let Some(blocked) = came_back(&stage)? {
                return Ok(Err(blocked));
            }
        }
        ContractStatus::Closing => {}
        ContractStatus::Closed => {
            return Ok(Err(Blocked {
                step: Action::RequestRefund.name(),
                reason: "the account is closed".to_owned(),
            }));
        }
    }
    if picture.proxy_state.status == ContractStatus::Closed {
        return Ok(Err(Blocked {
            step: "wait for the proxy",
            reason: "the proxy contract is closed and pays nothing any more".to_owned(),
        }));
    }
    let mut outcome = start.outcome(&stage, steps, 0, None)?;
    let price = picture.client_state.params.price_per_token;
    let open = used_total
        .unwrap_or(0)
        .saturating_sub(outcome.ledger.tokens_used);
    let charged = u128::from(open)
        .saturating_mul(price)
        .min(outcome.ledger.balance);
    let granted = outcome.ledger.balance - charged;
    outcome.charged = charged;
    outcome.returned = outcome.returned.saturating_add(granted);
    outcome.owner_change = outcome
        .owner_change
        .saturating_add(i128::try_from(granted).unwrap_or(i128::MAX));
    outcome.ledger.balance = 0;
    outcome.ledger.status = ContractStatus::Closed;
    outcome.ledger.unlock_time = 0;
    outcome.ledger.tokens_used += open;
    outcome.exact = false;
    Ok(Ok(outcome))
}

/// The closed contract's own coins, where its code gives them back and they are worth the fees.
fn sweep(stage: &mut Stage, at: u32, steps: &mut Vec<Step>) -> Result<(), ExitError> {
    if stage.ledger()?.status != ContractStatus::Closed {
        return Ok(());
    }
    let mut attempt = stage.clone();
    let before = attempt.coins()?[0];
    if let Ok(step) = attempt.act(at, &Action::Sweep)?
        && attempt.coins()?[0] > before
    {
        steps.push(step);
        *stage = attempt;
    }
    Ok(())
}
