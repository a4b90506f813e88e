//! What a deposit would be worth in the worst case, before it is made.

use std::sync::Arc;

use cocoon_devnet::config::ChainConfig;
use cocoon_ton::abi::ContractStatus;
use cocoon_ton::amount::{NANO_PER_TON, format_ton};

use crate::ExitError;
use crate::action::Action;
use crate::picture::{Picture, ProxyFacts};
use crate::stage::{Blocked, Stage};
use crate::taking::forced;
use crate::ways::Outcome;

/// Coins that the owner is taken to have beside the deposit, so that an empty wallet is not mistaken for a bad exit.
const POCKET: u128 = 100 * NANO_PER_TON;

/// Something that puts money at risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing: what is there already.
    Nothing,
    /// To force a refund as soon as it is unlocked, with the proxy's stake as it is now: nobody else comes first.
    Force,
    /// A deposit.
    TopUp {
        /// NanoTON.
        coins: u128,
    },
    /// A higher stake of the client: less can be withdrawn, more is left to the proxy's stake.
    IncreaseStake {
        /// The whole new stake in nanoTON.
        new_stake: u128,
    },
}

impl Plan {
    fn action(self) -> Option<Action> {
        match self {
            Self::Nothing | Self::Force => None,
            Self::TopUp { coins } => Some(Action::TopUp { coins }),
            Self::IncreaseStake { new_stake } => Some(Action::IncreaseStake { new_stake }),
        }
    }
}

/// The worst way out of a planned deposit: the proxy's node dead for ever, and all others paid out of its stake first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is planned.
    pub plan: Plan,
    /// Deposit in the ledger after the plan, in nanoTON.
    pub at_stake: u128,
    /// The proxy's figures before the plan.
    pub facts: ProxyFacts,
    /// The worst way out, or why there is none.
    pub worst: Result<Outcome, Blocked>,
    /// Why it is refused; `None` if nothing but fees can be lost.
    pub objection: Option<String>,
}

impl Verdict {
    /// Whether the worst way out loses nothing but fees.
    pub fn is_safe(&self) -> bool {
        self.objection.is_none()
    }
}

pub(crate) fn judge(
    picture: &Picture,
    config: &Arc<ChainConfig>,
    plan: Plan,
) -> Result<Verdict, ExitError> {
    let facts = picture.proxy_facts();
    let planned = match plan {
        Plan::TopUp { coins } => coins,
        _ => 0,
    };
    let verdict = |at_stake, worst, objection| Verdict {
        plan,
        at_stake,
        facts,
        worst,
        objection,
    };
    let after = picture.client_state.balance.saturating_add(planned);
    if let Some(objection) = wrong_state(picture, plan) {
        let blocked = Blocked {
            step: "deposit",
            reason: objection.clone(),
        };
        return Ok(verdict(after, Err(blocked), Some(objection)));
    }
    let others = if plan == Plan::Force { 0 } else { facts.others };
    let last = picture.with_less_stake(others)?;
    let mut stage = Stage::new(&last, config, planned.saturating_add(POCKET))?;
    if let Some(action) = plan.action()
        && let Err(blocked) = stage.act(picture.now, &action)?
    {
        let objection = blocked.to_string();
        return Ok(verdict(after, Err(blocked), Some(objection)));
    }
    let at_stake = stage.ledger()?.balance;
    let worst = forced(stage, picture.now)?;
    let objection = objection(&worst, at_stake, others, &facts, plan);
    Ok(verdict(at_stake, worst, objection))
}

/// Money goes only into an account and a proxy that are both open (W7, W10).
fn wrong_state(picture: &Picture, plan: Plan) -> Option<String> {
    if matches!(plan, Plan::Nothing | Plan::Force) {
        return None;
    }
    let name = |status| match status {
        ContractStatus::Normal => None,
        ContractStatus::Closing => Some("closing"),
        ContractStatus::Closed => Some("closed"),
    };
    if let Some(state) = name(picture.client_state.status) {
        return Some(format!(
            "the account is {state}: what goes in now can only be forced out again"
        ));
    }
    name(picture.proxy_state.status)
        .map(|state| format!("the proxy contract is {state}: it keeps no deposits any more"))
}

fn objection(
    worst: &Result<Outcome, Blocked>,
    at_stake: u128,
    others: u128,
    facts: &ProxyFacts,
    plan: Plan,
) -> Option<String> {
    let outcome = match worst {
        Ok(outcome) => outcome,
        Err(blocked) => {
            return Some(format!("there is no way out without the proxy: {blocked}"));
        }
    };
    if outcome.missing() == 0 {
        return None;
    }
    let shared = if others == 0 || facts.stake == 0 {
        String::new()
    } else {
        format!(
            " and up to {} in its contract may be other clients' claims on it",
            format_ton(others)
        )
    };
    if outcome.lost == 0 {
        return Some(format!(
            "the proxy contract has {}, not enough to pay {} out: a forced refund would come back unpaid",
            format_ton(facts.coins),
            format_ton(at_stake)
        ));
    }
    let dies = if plan == Plan::Force {
        "now"
    } else {
        "if the proxy dies"
    };
    Some(format!(
        "the proxy's stake is {}{shared}: {dies}, a forced refund would return {} of {}",
        format_ton(facts.stake),
        format_ton(outcome.returned),
        format_ton(at_stake)
    ))
}
