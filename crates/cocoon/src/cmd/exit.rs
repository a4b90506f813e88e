//! `cocoon account exit`: the ways out of the local client's deposit, and the best one taken.

mod show;
mod take;

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use cocoon_exit::{ExitError, Known, Plan, Report, Way, judge, prove};
use cocoon_ton::abi::{ContractStatus, Envelope, SignedOp};
use cocoon_ton::amount::{format_ton, parse_ton};
use cocoon_ton::{Address, Chain};

use crate::cli::{ExitArgs, Global};
use crate::error::{CliError, Result};
use crate::fs::read_small;
use crate::http::Http;
use crate::network::Network;
use crate::up::settings::address;

/// Runs the command.
pub async fn run(args: &ExitArgs, global: &Global) -> Result<ExitCode> {
    let network = super::running(global)?;
    let chain = super::chain(&network);
    let contract = match &args.contract {
        Some(text) => address(text, "--contract")?,
        None => network.client.contract,
    };
    let known = Known {
        grant: args.grant.as_deref().map(read_grant).transpose()?,
        used_total: used_total(&network, &contract).await,
    };
    let report = prove(&chain, &contract, known.clone())
        .await
        .map_err(|e| failed(&e))?;
    if args.dry_run {
        let planned = planned(args, &chain, &contract).await?;
        if args.json {
            super::print_json(&show::json(&report, planned.as_ref()));
        } else {
            print!("{}", show::text(&report, planned.as_ref()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let way = choose(args, &report)?;
    if !args.json {
        print!("{}", show::text(&report, None));
    }
    confirm(args, &report, way)?;
    let taken = take::take(&network, global, args, &report, way, known.grant).await?;
    if args.json {
        super::print_json(&taken.json());
    } else {
        print!("{}", taken.text());
    }
    // Waiting for the proxy or for the delay is no failure, but nothing is out yet.
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &ExitError) -> CliError {
    let failure = CliError::new("the ways out cannot be shown").found(error.to_string());
    match error {
        ExitError::NoClient(_) => failure
            .expected("a client contract that was deployed")
            .hint("'cocoon account ADDRESS' shows what is there"),
        ExitError::Chain(_) => failure.hint("check with 'cocoon status'"),
        _ => failure,
    }
}

/// What the node knows of tokens used and not yet charged. Without it the figures of the granted refund are too high
/// by that much, and the report says so.
async fn used_total(network: &Network, contract: &Address) -> Option<u64> {
    let url = format!("{}/jsonstats", network.client.url);
    let answer = Http::default().get(&url).await.ok()?;
    let proxies = answer.json["proxies"].as_array()?.clone();
    proxies
        .iter()
        .find(|p| {
            p["sc_address"]
                .as_str()
                .and_then(|text| Address::parse(text).ok())
                .is_some_and(|parsed| parsed.address == *contract)
        })
        .and_then(|p| p["tokens_used_proxy_max"].as_u64())
}

fn read_grant(path: &Path) -> Result<Envelope> {
    let wrong = |found: String| {
        CliError::usage(format!("{} is no granted refund", path.display()))
            .expected("a BOC with the proxy's signed refund, as bytes or in hex")
            .found(found)
    };
    let bytes = read_small(path)?.ok_or_else(|| wrong("no such file".to_owned()))?;
    let decoded = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| hex::decode(text.trim()).ok());
    let envelope: Envelope =
        Envelope::from_boc(&decoded.unwrap_or(bytes)).map_err(|e| wrong(e.to_string()))?;
    match envelope.payload.op {
        SignedOp::ClientGrantRefund => Ok(envelope),
        other => Err(wrong(format!("a signed {other:?}"))),
    }
}

async fn planned(
    args: &ExitArgs,
    chain: &dyn Chain,
    contract: &Address,
) -> Result<Option<cocoon_exit::Verdict>> {
    let amount = |flag: &str, text: &str| {
        parse_ton(text).map_err(|e| {
            CliError::usage(format!("cannot read {flag}"))
                .expected("an amount such as 1.5 or \"1000 nanoTON\"")
                .found(e.to_string())
        })
    };
    let plan = match (&args.deposit, &args.stake) {
        (Some(text), _) => Plan::TopUp {
            coins: amount("--deposit", text)?,
        },
        (None, Some(text)) => Plan::IncreaseStake {
            new_stake: amount("--stake", text)?,
        },
        (None, None) => return Ok(None),
    };
    judge(chain, contract, plan)
        .await
        .map(Some)
        .map_err(|e| failed(&e))
}

/// The way to be taken. The forced one is taken unasked only where it loses nothing and no better one exists.
fn choose(args: &ExitArgs, report: &Report) -> Result<Way> {
    let wanted = if args.withdraw {
        Way::Withdraw
    } else if args.forced {
        Way::Forced
    } else if args.grant.is_some() {
        Way::Granted
    } else {
        report.recommended.ok_or_else(|| {
            CliError::new("there is nothing to take out")
                .found("a closed account without a deposit")
                .hint("'cocoon account exit --dry-run' shows its figures")
        })?
    };
    if let Some(Err(blocked)) = report.way(wanted).map(|w| &w.outcome) {
        return Err(
            CliError::new(format!("this way out is closed: {}", wanted.title()))
                .found(blocked.to_string())
                .hint("'cocoon account exit --dry-run' shows the others"),
        );
    }
    // Presenting a refund that the proxy contract cannot pay would close the account and bring nothing.
    if wanted == Way::Granted
        && let Some(Ok(outcome)) = report.way(wanted).map(|w| &w.outcome)
        && outcome.missing() > 0
    {
        return Err(CliError::new("the granted refund would come back unpaid")
            .expected(format!(
                "{} in the proxy contract",
                format_ton(outcome.missing())
            ))
            .found(format_ton(report.facts.coins))
            .hint("wait until it has the coins; the signature does not expire"));
    }
    Ok(wanted)
}

fn confirm(args: &ExitArgs, report: &Report, way: Way) -> Result<()> {
    let mut warnings = Vec::new();
    if let Some(Ok(outcome)) = report.way(way).map(|w| &w.outcome) {
        if outcome.lost > 0 {
            warnings.push(format!("{} is lost for good", format_ton(outcome.lost)));
        }
        if way == Way::Forced
            && let Some(better) = report.better_than_forced()
        {
            warnings.push(format!("there is a better way: {}", better.title()));
        }
    }
    if way != Way::Withdraw && report.ledger.status == ContractStatus::Normal {
        warnings.push(
            "the account is closed for good; the client cannot use this proxy again".to_owned(),
        );
    }
    for warning in &warnings {
        eprintln!("note: {warning}");
    }
    if args.yes {
        return Ok(());
    }
    let unconfirmed = |found: &str| {
        CliError::usage("nothing was sent: this needs a confirmation")
            .expected("'yes' on the terminal, or the flag --yes")
            .found(found)
    };
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(unconfirmed("no terminal"));
    }
    eprint!("{} - type yes to do this: ", way.title());
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    stdin
        .lock()
        .read_line(&mut line)
        .map_err(|e| unconfirmed(&e.to_string()))?;
    if line.trim() == "yes" {
        Ok(())
    } else {
        Err(unconfirmed("another answer"))
    }
}
