//! The ways out, for people and for machines.

use cocoon_exit::{Ledger, Outcome, Report, Role, Step, Verdict, WayOut};
use cocoon_ton::abi::{ContractStatus, op};
use cocoon_ton::amount::format_ton;
use serde_json::{Value, json};

/// A contract's state in a word.
pub fn status(status: ContractStatus) -> &'static str {
    match status {
        ContractStatus::Normal => "normal",
        ContractStatus::Closing => "closing",
        ContractStatus::Closed => "closed",
    }
}

/// Everything as one object. Amounts are nanoTON in text, because they may exceed what JSON numbers hold.
pub fn json(report: &Report, planned: Option<&Verdict>) -> Value {
    let facts = &report.facts;
    json!({
        "time": report.now,
        "client": {
            "contract": report.client.to_string(),
            "owner": report.owner.to_string(),
            "ledger": ledger(&report.ledger),
        },
        "proxy": {
            "contract": report.proxy.to_string(),
            "state": status(facts.status),
            "coins": facts.coins.to_string(),
            "stake": facts.stake.to_string(),
            "revenue": facts.revenue.to_string(),
            "others": facts.others.to_string(),
            "shortfall": facts.shortfall.to_string(),
            "last_commit": facts.seen,
        },
        "recommended": report.recommended.map(|way| way.name()),
        "ways": report.ways.iter().map(way).collect::<Vec<_>>(),
        "notes": report.notes,
        "planned": planned.map(verdict),
    })
}

fn ledger(ledger: &Ledger) -> Value {
    json!({
        "state": status(ledger.status),
        "balance": ledger.balance.to_string(),
        "stake": ledger.stake.to_string(),
        "tokens_used": ledger.tokens_used,
        "unlock_time": ledger.unlock_time,
    })
}

fn way(way: &WayOut) -> Value {
    let mut shown = json!({
        "way": way.way.name(),
        "title": way.way.title(),
        "scenario": way.way.is_scenario(),
        "risk": way.risk,
        "possible": way.outcome.is_ok(),
        "blocked": null,
    });
    match &way.outcome {
        Ok(outcome) => shown["outcome"] = self::outcome(outcome),
        Err(blocked) => shown["blocked"] = json!(blocked.to_string()),
    }
    shown
}

fn outcome(outcome: &Outcome) -> Value {
    json!({
        "returned": outcome.returned.to_string(),
        "charged": outcome.charged.to_string(),
        "lost": outcome.lost.to_string(),
        "fees": outcome.fees.to_string(),
        "owner_change": outcome.owner_change.to_string(),
        "left_in_contract": outcome.left_in_contract.to_string(),
        "wait_seconds": outcome.wait_s,
        "exact": outcome.exact,
        "ledger_after": ledger(&outcome.ledger),
        "steps": outcome.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

fn step(step: &Step) -> Value {
    let transactions = step.transactions.iter().map(|tx| {
        json!({
            "account": match tx.role {
                Role::Owner => "owner",
                Role::Client => "client",
                Role::Proxy => "proxy",
                Role::Other => "other",
            },
            "op": tx.op.map(|op| format!("{op:#010x}")),
            "name": tx.op.and_then(op::name),
            "value": tx.value.to_string(),
            "fees": tx.fees.to_string(),
            "exit_code": tx.exit_code,
            "action_code": tx.action_code,
            "aborted": tx.aborted,
        })
    });
    json!({
        "action": step.action.name(),
        "at": step.at,
        "value": step.value.to_string(),
        "paid": step.paid.to_string(),
        "transactions": transactions.collect::<Vec<_>>(),
    })
}

fn verdict(verdict: &Verdict) -> Value {
    json!({
        "safe": verdict.is_safe(),
        "objection": verdict.objection,
        "deposit_after": verdict.at_stake.to_string(),
        "worst": match &verdict.worst {
            Ok(outcome) => self::outcome(outcome),
            Err(blocked) => json!({"blocked": blocked.to_string()}),
        },
    })
}

/// The same as a table.
pub fn text(report: &Report, planned: Option<&Verdict>) -> String {
    let (ledger, facts) = (&report.ledger, &report.facts);
    let mut lines = vec![
        format!(
            "account  {}   {}, deposit {}, stake {}, {} tokens charged",
            report.client.to_text(true, true),
            status(ledger.status),
            format_ton(ledger.balance),
            format_ton(ledger.stake),
            ledger.tokens_used
        ),
        format!(
            "proxy    {}   {}, stake {}, revenue {}, possibly others' {}",
            report.proxy.to_text(true, true),
            status(facts.status),
            format_ton(facts.stake),
            format_ton(facts.revenue),
            format_ton(facts.others)
        ),
        String::new(),
        format!(
            "  {:<38} {:>18} {:>18} {:>16} {:>18}",
            "way out", "returned", "fees", "waiting", "lost"
        ),
    ];
    for way in &report.ways {
        let mark = if report.recommended == Some(way.way) {
            '*'
        } else {
            ' '
        };
        let title = way.way.title();
        match &way.outcome {
            Ok(outcome) => lines.push(format!(
                "{mark} {title:<38} {:>18} {:>18} {:>16} {:>18}",
                format_ton(outcome.returned),
                format_ton(outcome.fees),
                waiting(outcome),
                if outcome.lost == 0 {
                    "nothing".to_owned()
                } else {
                    format_ton(outcome.lost)
                }
            )),
            Err(blocked) => {
                lines.push(format!("{mark} {title:<38} closed: {}", blocked.reason));
                continue;
            }
        }
        lines.push(format!("      {}", way.risk));
    }
    for note in &report.notes {
        lines.push(format!("note: {note}"));
    }
    match report.recommended {
        Some(way) => lines.push(format!("* is the best way: {}", way.title())),
        None => lines.push("there is nothing to take out".to_owned()),
    }
    if let Some(verdict) = planned {
        lines.push(match &verdict.objection {
            None => format!(
                "what is planned is safe: all {} would come out again",
                format_ton(verdict.at_stake)
            ),
            Some(objection) => format!("what is planned is refused: {objection}"),
        });
    }
    lines.join("\n") + "\n"
}

fn waiting(outcome: &Outcome) -> String {
    match outcome.wait_s {
        Some(0) => "none".to_owned(),
        Some(seconds) => format!("{seconds} s"),
        None => "until it answers".to_owned(),
    }
}
