//! Section 15.1 of the specification, weakness by weakness: the loss with the official behaviour, its absence in our
//! contracts, and the exact limits of what the ABI does not allow to fix.

mod bounces;
mod limits;
mod relayer;
mod residues;
mod root;
mod scene;
mod wallet;

use crate::codes::Codes;

listed_tests! {
    w1_unpaid_payout_stays_payable = bounces::w1_unpaid_payout_stays_payable;
    w1_unpaid_last_payout_reopens = bounces::w1_unpaid_last_payout_reopens;
    w1_a_later_payout_survives_the_bounce = bounces::w1_a_later_payout_survives_the_bounce;
    w2_unpaid_refund_stays_in_the_ledger = bounces::w2_unpaid_refund_stays_in_the_ledger;
    w2_unpaid_withdrawals_stay_in_the_ledger = bounces::w2_unpaid_withdrawals_stay_in_the_ledger;
    w2_every_way_out_is_open_after_a_bounce = bounces::w2_every_way_out_is_open_after_a_bounce;
    w3_forced_refund_is_limited_to_the_stake = limits::w3_forced_refund_is_limited_to_the_stake;
    w4_grant_refund_keeps_the_residue = residues::w4_grant_refund_keeps_the_residue;
    w4_last_payout_keeps_the_residue = residues::w4_last_payout_keeps_the_residue;
    w5_a_failed_batch_is_spent = wallet::w5_a_failed_batch_is_spent;
    w6_revenue_needs_no_charge = limits::w6_revenue_needs_no_charge;
    w7_the_end_of_a_proxy_takes_everything = limits::w7_the_end_of_a_proxy_takes_everything;
    w8_bounced_deposit_leaves_the_ledger = bounces::w8_bounced_deposit_leaves_the_ledger;
    w8_a_spent_deposit_closes_the_client = bounces::w8_a_spent_deposit_closes_the_client;
    w9_a_shortfall_is_forgiven = limits::w9_a_shortfall_is_forgiven;
    w10_a_closing_client_takes_deposits = limits::w10_a_closing_client_takes_deposits;
    w11_fee_above_price_is_refused = root::w11_fee_above_price_is_refused;
    w11_zeros_are_refused = root::w11_zeros_are_refused;
    w12_owner_rules_alone = root::w12_owner_rules_alone;
    w14_the_root_is_never_asked = limits::w14_the_root_is_never_asked;
    w15_anybody_makes_transactions = limits::w15_anybody_makes_transactions;
    w16_open_operations_serve_the_owner = limits::w16_open_operations_serve_the_owner;
    w17_signatures_do_not_expire = root::w17_signatures_do_not_expire;
    w18_limits_differ = limits::w18_limits_differ;
    w19_forced_refund_frees_the_residue = residues::w19_forced_refund_frees_the_residue;
    w20_new_params_are_new_contracts = root::w20_new_params_are_new_contracts;
    w21_two_multipliers_are_hidden = root::w21_two_multipliers_are_hidden;
    w22_a_closing_proxy_pays_deposits_twice = limits::w22_a_closing_proxy_pays_deposits_twice;
    w23_bad_excess_receiver_does_not_stop_a_payout =
        relayer::w23_bad_excess_receiver_does_not_stop_a_payout;
    w23_bad_excess_receiver_does_not_stop_a_refund =
        relayer::w23_bad_excess_receiver_does_not_stop_a_refund;
    w23_an_unpayable_owner_keeps_his_claim = relayer::w23_an_unpayable_owner_keeps_his_claim;
}

/// A test that is given codes.
type Check = fn(&Codes) -> Result<(), String>;

/// The contracts with an official behaviour instead of ours: what is lost there, and the tests above that notice.
const OFFICIAL: &[(&str, Check, &[Check])] = &[
    (
        "w1-worker-ignores-bounces",
        bounces::w1_lost,
        &[
            bounces::w1_unpaid_payout_stays_payable,
            bounces::w1_unpaid_last_payout_reopens,
        ],
    ),
    (
        "w2-client-ignores-refund-bounces",
        bounces::w2_lost,
        &[
            bounces::w2_unpaid_refund_stays_in_the_ledger,
            bounces::w2_unpaid_withdrawals_stay_in_the_ledger,
        ],
    ),
    (
        "w8-client-ignores-all-bounces",
        bounces::w2_lost,
        &[
            bounces::w2_unpaid_refund_stays_in_the_ledger,
            bounces::w8_bounced_deposit_leaves_the_ledger,
        ],
    ),
    (
        "w8-client-ignores-all-bounces",
        bounces::w8_lost,
        &[bounces::w8_bounced_deposit_leaves_the_ledger],
    ),
    (
        "w4-grant-refund-sweeps-to-relayer",
        residues::w4_lost_by_grant_refund,
        &[residues::w4_grant_refund_keeps_the_residue],
    ),
    (
        "w4-last-payout-sweeps-to-relayer",
        residues::w4_lost_by_last_payout,
        &[residues::w4_last_payout_keeps_the_residue],
    ),
    (
        "w5-wallet-without-commit-and-flag",
        wallet::w5_lost,
        &[wallet::w5_a_failed_batch_is_spent],
    ),
    (
        "w11-fee-above-price",
        root::w11_lost_by_fee,
        &[root::w11_fee_above_price_is_refused],
    ),
    (
        "w11-zero-delays-and-stakes",
        root::w11_lost_by_zero_delay,
        &[root::w11_zeros_are_refused],
    ),
    (
        "w19-client-without-sweep",
        residues::w19_lost,
        &[
            residues::w19_forced_refund_frees_the_residue,
            residues::w4_grant_refund_keeps_the_residue,
        ],
    ),
    (
        "w19-worker-without-sweep",
        residues::w19_lost_by_worker,
        &[residues::w4_last_payout_keeps_the_residue],
    ),
    (
        "proxy-excess-and-action-failure-official",
        relayer::w23_lost,
        &[
            relayer::w23_bad_excess_receiver_does_not_stop_a_payout,
            relayer::w23_bad_excess_receiver_does_not_stop_a_refund,
        ],
    ),
    (
        "proxy-excess-may-fail",
        relayer::w23_lost,
        &[
            relayer::w23_bad_excess_receiver_does_not_stop_a_payout,
            relayer::w23_bad_excess_receiver_does_not_stop_a_refund,
        ],
    ),
    (
        "proxy-action-failure-does-not-bounce",
        relayer::w23_lost_by_unpayable_owner,
        &[relayer::w23_an_unpayable_owner_keeps_his_claim],
    ),
];

/// Each loss happens with the official behaviour, not with ours, and each of our tests would notice it.
#[test]
fn losses_happen_with_the_official_behaviour_only() {
    let ours = Codes::built();
    let mut failures = Vec::new();
    for (variant, lost, holds) in OFFICIAL {
        let official = Codes::with_mutant(variant);
        if let Err(error) = lost(&official) {
            failures.push(format!("{variant}: the loss does not happen: {error}"));
        }
        if lost(&ours).is_ok() {
            failures.push(format!("{variant}: the loss happens with ours too"));
        }
        for (i, test) in holds.iter().enumerate() {
            if test(&official).is_ok() {
                failures.push(format!("{variant}: test {i} does not notice"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
