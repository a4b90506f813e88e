//! The ways out, each taken on a copy of its own.

use std::sync::Arc;

use cocoon_devnet::config::ChainConfig;
use cocoon_ton::Address;
use cocoon_ton::abi::ContractStatus;
use cocoon_ton::amount::format_ton;

use crate::action::Action;
use crate::picture::{Ledger, Picture, ProxyFacts};
use crate::stage::{Blocked, Stage, Step};
use crate::taking::{ask, forced, granted, withdraw};
use crate::{ExitError, Known};

/// More than rent: coins of the client contract itself that a way out leaves behind are worth a word.
const LOCKED: u128 = cocoon_ton::amount::NANO_PER_TON / 10;

/// A way out of a deposit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Present a refund that the proxy has signed: everything at once.
    Granted,
    /// Ask for a refund and wait for the proxy's signature.
    AskProxy,
    /// Ask for a refund, wait for the delay, and take it out of the proxy's stake.
    Forced,
    /// The same if all others take theirs out of the stake first.
    ForcedLast,
    /// The same if the stake is gone.
    ForcedWithoutStake,
    /// Take what exceeds the client's stake; the account stays open.
    Withdraw,
}

impl Way {
    /// For machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::AskProxy => "ask_proxy",
            Self::Forced => "forced",
            Self::ForcedLast => "forced_after_all_others",
            Self::ForcedWithoutStake => "forced_without_stake",
            Self::Withdraw => "withdraw",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Granted => "present the proxy's granted refund",
            Self::AskProxy => "request a refund, the proxy grants it",
            Self::Forced => "force it out of the proxy's stake",
            Self::ForcedLast => "force it, after all other clients",
            Self::ForcedWithoutStake => "force it, the stake being gone",
            Self::Withdraw => "withdraw above the stake, stay open",
        }
    }

    /// Whether it is a case to know about rather than something to choose.
    pub fn is_scenario(self) -> bool {
        matches!(self, Self::ForcedLast | Self::ForcedWithoutStake)
    }
}

/// What taking a way yields. Amounts are nanoTON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The messages, in order, with everything that follows from them.
    pub steps: Vec<Step>,
    /// Paid by the proxy contract to the owner's wallet.
    pub returned: u128,
    /// Charged for tokens used, on the way.
    pub charged: u128,
    /// Of the deposit: neither returned, nor charged, nor still in the ledger.
    pub lost: u128,
    /// The client's ledger afterwards.
    pub ledger: Ledger,
    /// Fees of the network, of all accounts together.
    pub fees: u128,
    /// By how much the owner's wallet grows, everything counted.
    pub owner_change: i128,
    /// Coins that stay in the client contract itself.
    pub left_in_contract: u128,
    /// Seconds from now until the last message can be sent. `None`: until the proxy answers.
    pub wait_s: Option<u32>,
    /// False where a part is computed instead of emulated, because only the proxy can sign it.
    pub exact: bool,
}

impl Outcome {
    /// What of the deposit has not come out: lost, or stuck in the ledger of a contract that was to be emptied.
    pub fn missing(&self) -> u128 {
        self.lost.saturating_add(self.ledger.balance)
    }
}

/// A way, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WayOut {
    /// Which.
    pub way: Way,
    /// What it yields, or why it is closed.
    pub outcome: Result<Outcome, Blocked>,
    /// What can still go wrong, or why it is as it is.
    pub risk: String,
}

/// All ways out of one client contract.
#[derive(Clone, Debug)]
pub struct Report {
    /// Unix time of the chain when the accounts were read.
    pub now: u32,
    /// Client contract.
    pub client: Address,
    /// Proxy contract.
    pub proxy: Address,
    /// Owner's wallet.
    pub owner: Address,
    /// The client's ledger.
    pub ledger: Ledger,
    /// The proxy's figures.
    pub facts: ProxyFacts,
    /// The ways, the best complete one first; then the scenarios, then those that leave the account open.
    pub ways: Vec<WayOut>,
    /// The best one that empties the account, if there is anything in it.
    pub recommended: Option<Way>,
    /// What else an owner should know.
    pub notes: Vec<String>,
}

impl Report {
    /// A way.
    pub fn way(&self, way: Way) -> Option<&WayOut> {
        self.ways.iter().find(|w| w.way == way)
    }

    /// The better way, if forcing a refund is not the best one.
    pub fn better_than_forced(&self) -> Option<Way> {
        self.recommended.filter(|way| *way != Way::Forced)
    }

    /// What the worst case yields: the proxy dead for ever, and everybody else before this client.
    pub fn worst(&self) -> Option<&WayOut> {
        self.way(Way::ForcedLast)
    }
}

pub(crate) fn report(
    picture: &Picture,
    config: &Arc<ChainConfig>,
    known: &Known,
) -> Result<Report, ExitError> {
    let stage = Stage::new(picture, config, 0)?;
    let facts = picture.proxy_facts();
    let now = picture.now;
    let mut ways = Vec::new();
    if let Some(grant) = known.grant {
        let price = picture.client_state.params.price_per_token;
        let outcome = granted(stage.clone(), now, Action::GrantRefund(grant), price)?;
        let risk = "none: the proxy has signed it".to_owned();
        ways.push(WayOut {
            way: Way::Granted,
            outcome,
            risk,
        });
    }
    let as_is = forced(stage.clone(), now)?;
    let without = |gone: u128| -> Result<Result<Outcome, Blocked>, ExitError> {
        let stage = Stage::new(&picture.with_less_stake(gone)?, config, 0)?;
        forced(stage, now)
    };
    ways.push(WayOut {
        way: Way::AskProxy,
        outcome: ask(stage.clone(), picture, known.used_total)?,
        risk: ask_risk(&facts, now),
    });
    ways.push(WayOut {
        way: Way::Forced,
        risk: forced_risk(&as_is, &facts),
        outcome: as_is,
    });
    ways.push(WayOut {
        way: Way::ForcedLast,
        outcome: without(facts.others)?,
        risk: format!(
            "all clients share one stake; up to {} in the proxy contract may be others' claims on it",
            format_ton(facts.others)
        ),
    });
    ways.push(WayOut {
        way: Way::ForcedWithoutStake,
        outcome: without(u128::MAX)?,
        risk: format!("today the stake is {}", format_ton(facts.stake)),
    });
    ways.push(WayOut {
        way: Way::Withdraw,
        outcome: withdraw(stage, now)?,
        risk: "the stake stays in, with the risks above".to_owned(),
    });
    let recommended = recommend(&ways, picture);
    if recommended == Some(Way::Forced) {
        // The best complete way first.
        ways.sort_by_key(|w| w.way != Way::Forced);
    }
    Ok(Report {
        now,
        client: picture.client.address,
        proxy: picture.proxy.address,
        owner: picture.owner.address,
        ledger: picture.ledger(),
        facts,
        recommended,
        notes: notes(picture, &facts, known),
        ways,
    })
}

/// A signed refund, then waiting for the proxy, then force: but force goes before waiting for a proxy that is silent,
/// as long as nothing is lost by it. Waiting costs nothing, so it goes before a loss.
fn recommend(ways: &[WayOut], picture: &Picture) -> Option<Way> {
    if picture.client_state.balance == 0 && picture.client_state.status == ContractStatus::Closed {
        return None;
    }
    let good = |way: Way| {
        ways.iter()
            .find(|w| w.way == way)
            .and_then(|w| w.outcome.as_ref().ok())
            .is_some_and(|outcome| outcome.missing() == 0)
    };
    if good(Way::Granted) {
        return Some(Way::Granted);
    }
    let silent = picture.seen.is_none();
    if silent && good(Way::Forced) {
        return Some(Way::Forced);
    }
    let open = ways
        .iter()
        .find(|w| w.way == Way::AskProxy)
        .is_some_and(|w| w.outcome.is_ok());
    if open {
        return Some(Way::AskProxy);
    }
    good(Way::Forced).then_some(Way::Forced)
}

fn ask_risk(facts: &ProxyFacts, now: u32) -> String {
    match facts.seen {
        Some(seen) => format!(
            "the proxy's node committed {} s ago, so it should answer",
            now.saturating_sub(seen)
        ),
        None => format!(
            "the proxy's node has not committed for {} s: it may never answer",
            crate::SILENT_AFTER_S
        ),
    }
}

fn forced_risk(outcome: &Result<Outcome, Blocked>, facts: &ProxyFacts) -> String {
    match outcome {
        Ok(outcome) if outcome.lost > 0 => format!(
            "{} is lost for good: the proxy's stake is {}",
            format_ton(outcome.lost),
            format_ton(facts.stake)
        ),
        Ok(outcome) if outcome.ledger.balance > 0 => {
            "the proxy contract does not have the coins; the ledger keeps the claim".to_owned()
        }
        Ok(outcome) if outcome.left_in_contract > LOCKED => format!(
            "who comes first takes the stake; this client code locks its own {} for ever",
            format_ton(outcome.left_in_contract)
        ),
        Ok(_) => "who comes first takes the stake".to_owned(),
        Err(_) => "the only way without the proxy is closed".to_owned(),
    }
}

fn notes(picture: &Picture, facts: &ProxyFacts, known: &Known) -> Vec<String> {
    let mut notes = Vec::new();
    let params = &picture.proxy_state.params;
    if facts.status != ContractStatus::Normal {
        notes.push(format!(
            "the proxy contract is {}; when its closing is completed, everything in it goes to its owner",
            if facts.status == ContractStatus::Closing { "closing" } else { "closed" }
        ));
    }
    if params.client_delay >= params.proxy_delay {
        notes.push(format!(
            "a proxy that closes is gone after {} s, a forced refund takes more than {} s: leave before it closes",
            params.proxy_delay, params.client_delay
        ));
    }
    if facts.shortfall > 0 {
        notes.push(format!(
            "the proxy contract lacks {} to cover its stake, its revenue and this deposit alone",
            format_ton(facts.shortfall)
        ));
    }
    if known.used_total.is_none() {
        notes.push(
            "tokens used and not yet charged are not known here; the proxy takes them off what it grants"
                .to_owned(),
        );
    }
    notes
}
