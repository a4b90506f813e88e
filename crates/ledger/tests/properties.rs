//! Properties that hold for every input.

use cocoon_ledger::adjust::adjust_up;
use cocoon_ledger::reserve::{ChainAccount, ClientBook, Demand};
use cocoon_ledger::session::{SessionCommits, StateCommit};
use cocoon_ledger::usage::{Mode, ModelUsage, Multipliers, Prices, UsageCounter};
use cocoon_ledger::validate::{Rules, validate};
use cocoon_ledger::{
    AdjustedTokens, Claims, Coefficient, CommitTracker, ModelTokens, Multiplier, NanoTon, adjust,
};
use proptest::prelude::*;

fn coefficient() -> impl Strategy<Value = Coefficient> {
    (0u32..=999_999_999).prop_map(|value| Coefficient::new(value).unwrap())
}

fn multipliers() -> impl Strategy<Value = Multipliers> {
    let one = || (0u32..200_000).prop_map(Multiplier);
    (one(), one(), one(), one()).prop_map(|(prompt, cached, completion, reasoning)| Multipliers {
        prompt,
        cached,
        completion,
        reasoning,
    })
}

fn prices() -> Prices {
    Prices {
        multipliers: Multipliers::default(),
        price_per_token: NanoTon(20),
        coefficient: Coefficient::ONE,
    }
}

/// Bodies as servers send them.
const TEMPLATES: [&str; 4] = [
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hi \\n there\"}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":\
     {\"prompt_tokens\":5,\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":2}}}\n\ndata: [DONE]\n\n",
    ": c\n\nid: 1\ndata: {\"usage\":\ndata: {\"prompt_tokens\":3,\ndata: \"completion_tokens\":4 }\ndata: }\n\n",
    "{\"id\": \"a\", \"choices\":[{\"text\":\"x\"}], \"usage\" : {\"prompt_tokens\":9, \"total_cost\":1} }\n",
    "{\"d\":[1,{\"e\":-2.5e3}]}\n{\"us\\u0061ge\":{\"completion_tokens\":9}}{\"usage\":{\"reasoning_tokens\":3}} 42 \"s\" true\n",
];

/// A template with a few bytes changed, added or removed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        prop::sample::select(b"{}[]\",:\\\r\n d0".to_vec()),
        any::<u8>()
    ];
    let change = (any::<prop::sample::Index>(), 0u8..3, byte);
    let end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    let template = prop::sample::select(TEMPLATES.to_vec());
    (template, end, prop::collection::vec(change, 0..4)).prop_map(|(template, end, changes)| {
        let mut body = template.replace('\n', end).into_bytes();
        for (at, what, byte) in changes {
            let at = at.index(body.len());
            match what {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        body
    })
}

/// Fragments in any order.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        prop::sample::select(vec![
            "data: ",
            "data:",
            "data",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            ": c",
            "id: 7",
            "[DONE]",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "\"",
            "\\",
            "\"usage\":",
            "\"usage\":{\"prompt_tokens\":5}",
            "{\"usage\":{\"completion_tokens\":9}}",
            "null",
            "42",
            "-",
            "1e999",
            " ",
            "\u{feff}",
            "{\"choices\":[{\"delta\":{\"content\":\"x\"}}]}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(fragment, 0..24).prop_map(|parts| parts.concat())
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => damaged(), 1 => fragments()]
}

fn count(mode: Mode, pieces: &[&[u8]]) -> (Vec<u8>, UsageCounter) {
    let mut counter = UsageCounter::new(mode, prices());
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(counter.push(piece));
    }
    out.extend(counter.finish());
    (out, counter)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn output_does_not_depend_on_the_cuts(body in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.push(0);
        cuts.push(body.len());
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &body[pair[0]..pair[1]]).collect();
        for mode in [Mode::Streaming, Mode::Reference] {
            let (whole_out, whole) = count(mode, &[&body]);
            let (cut_out, cut) = count(mode, &pieces);
            prop_assert_eq!(whole_out, cut_out);
            prop_assert_eq!(whole.raw(), cut.raw());
            prop_assert_eq!(whole.delivered_chunks(), cut.delivered_chunks());
            prop_assert!(whole.usage().validate(AdjustedTokens(u64::MAX)).is_ok());
        }
    }

    #[test]
    fn without_usage_every_byte_passes(body in body()) {
        let (out, counter) = count(Mode::Streaming, &[&body]);
        if counter.raw() == ModelUsage::default() {
            prop_assert_eq!(out, body);
        } else {
            prop_assert!(out.len() > body.len() || String::from_utf8_lossy(&body).contains("cost"));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        body in prop_oneof![prop::collection::vec(any::<u8>(), 0..200), body()], url in ".{0,40}",
    ) {
        count(Mode::Streaming, &[&body]);
        count(Mode::Reference, &[&body]);
        for rules in [Rules::Reference, Rules::OpenAi] {
            let _ = validate(&url, &body, "m", rules, Some(5));
            let _ = validate("/v1/completions", &body, "m", rules, None);
        }
    }

    #[test]
    fn a_validated_body_is_accepted_again_unchanged(
        n in 1u64..5, limit in prop::option::of(0u64..2000), stream in prop::option::of(any::<bool>()), budget in 5u64..1000,
    ) {
        let mut request = serde_json::json!({"model": "m", "messages": [], "n": n});
        if let Some(limit) = limit { request["max_completion_tokens"] = limit.into(); }
        if let Some(stream) = stream { request["stream"] = stream.into(); }
        let url = "/v1/chat/completions";
        let once = validate(url, request.to_string().as_bytes(), "m", Rules::OpenAi, Some(budget)).unwrap();
        let twice = validate(url, &once.body, "m", Rules::OpenAi, Some(budget)).unwrap();
        prop_assert!(once.max_tokens.unwrap() * once.n <= budget);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn adjust_is_monotone(n in any::<u64>(), step in 0u64..1_000_000, c in coefficient(), m in any::<u32>()) {
        let at = |n| adjust(ModelTokens(n), c, Multiplier(m));
        prop_assert!(at(n) <= at(n.saturating_add(step)));
        prop_assert!(at(n) <= adjust_up(ModelTokens(n), c, Multiplier(m)));
    }

    #[test]
    fn billed_classes_add_up(
        prompt in any::<u64>(), cached in any::<u64>(), completion in any::<u64>(), reasoning in any::<u64>(),
        c in coefficient(), multipliers in multipliers(),
    ) {
        let usage = ModelUsage {
            prompt: ModelTokens(prompt),
            cached: ModelTokens(cached),
            completion: ModelTokens(completion),
            reasoning: ModelTokens(reasoning),
        };
        let used = usage.adjusted(&Prices { multipliers, coefficient: c, ..prices() });
        prop_assert_eq!(used.validate(AdjustedTokens(u64::MAX)).map(|total| total.0 as i64), Ok(used.total));
    }

    #[test]
    fn reservations_cover_what_is_billed(
        query_bytes in 0usize..100_000, max_tokens in 0i64..20_000, n in 1u64..5, max_c in 0u32..20_000,
        parts in (0u64..=100, 0u64..=100, 0u64..=100, 0u64..=100), multipliers in multipliers(),
    ) {
        let demand = Demand::from_wire(query_bytes, max_tokens, n, i64::from(max_c)).unwrap();
        let reserved = demand.to_reserve(&multipliers);
        prop_assert!(reserved >= demand.to_reserve_reference());
        let prompt = demand.query_bytes * parts.0 / 100;
        let completion = demand.max_tokens * n * parts.1 / 100;
        let usage = ModelUsage {
            prompt: ModelTokens(prompt),
            cached: ModelTokens(prompt * parts.2 / 100),
            completion: ModelTokens(completion),
            reasoning: ModelTokens(completion * parts.3 / 100),
        };
        let coefficient = Coefficient::new(max_c).unwrap();
        let used = usage.adjusted(&Prices { multipliers, coefficient, ..prices() });
        prop_assert!(used.validate(reserved).is_ok());
    }

    #[test]
    fn numbers_from_a_peer_never_raise_what_is_available(
        used in 0u64..1_000_000, balance in 0u64..1_000_000_000, stake in 0u64..1_000_000_000, price in 0u64..1000,
        requests in prop::collection::vec((any::<i64>(), any::<i64>(), any::<u64>()), 0..20),
    ) {
        let price = NanoTon(price.into());
        let mut book = ClientBook {
            chain: ChainAccount {
                used: AdjustedTokens(used),
                balance: NanoTon(balance.into()),
                stake: NanoTon(stake.into()),
            },
            used: AdjustedTokens(used),
            reserved: AdjustedTokens(0),
        };
        let mut last = book.available(price);
        for (max_tokens, coefficient, n) in requests {
            // Half of the numbers small, so that some requests pass.
            let small = |value: i64| if value % 2 == 0 { value } else { value % 4000 };
            let Ok(demand) = Demand::from_wire(100, small(max_tokens), n % 4, small(coefficient)) else { continue };
            let reserved = demand.to_reserve(&Multipliers::default());
            let accepted = book.reserve(reserved, price).is_ok();
            prop_assert!(book.available(price) <= last);
            last = book.available(price);
            if accepted && n % 3 == 0 {
                book.finish(reserved, reserved).unwrap();
                prop_assert_eq!(book.available(price), last);
            }
        }
        prop_assert!(book.available_signed(price) >= 0);
    }

    #[test]
    fn claims_only_grow(steps in prop::collection::vec((any::<bool>(), 0u64..50, 0u64..50, 0u64..50), 0..40)) {
        let mut view = Claims::default();
        for (worker, signed, db, max) in steps {
            let heard = Claims::raised(AdjustedTokens(signed), AdjustedTokens(db), AdjustedTokens(max));
            let before = view;
            let rose = if worker { view.advance(heard) } else { Ok(view.merge(heard)) };
            prop_assert!(view.signed() >= before.signed() && view.db() >= before.db() && view.max() >= before.max());
            prop_assert!(view.signed() <= view.db() && view.db() <= view.max());
            prop_assert_eq!(rose.unwrap_or(false), view != before);
        }
    }

    /// Against a plain model: the list of all saves and the highest commit.
    #[test]
    fn nothing_is_signed_that_is_not_saved_and_committed(
        steps in prop::collection::vec((0u8..3, 0u64..100), 0..200), restored in 0u64..50,
    ) {
        let mut tracker = CommitTracker::restored(AdjustedTokens(restored));
        let mut commits = SessionCommits::new([7; 32]);
        let mut saves: Vec<(u32, u64)> = Vec::new();
        let mut committed = 0;
        for (step, amount) in steps {
            let signed_before = tracker.signed();
            match step {
                0 => tracker.add(AdjustedTokens(amount)).unwrap(),
                1 => {
                    let save_no = commits.begin_save().unwrap();
                    tracker.saved(save_no, tracker.max()).unwrap();
                    saves.push((save_no, tracker.max().0));
                }
                _ => {
                    let observed = amount as u32 % (commits.save_no() + 2);
                    let rose = tracker.observed_commit(observed);
                    committed = committed.max(observed);
                    prop_assert_eq!(rose, tracker.signed() > signed_before);
                }
            }
            let allowed = saves.iter().filter(|save| save.0 <= committed).map(|save| save.1).max();
            prop_assert!(tracker.signed() >= signed_before);
            prop_assert!(tracker.signed().0 <= allowed.unwrap_or(0).max(restored));
            prop_assert!(tracker.signed() <= tracker.db() && tracker.db() <= tracker.max());
        }
    }

    #[test]
    fn commits_that_were_not_begun_are_never_ours(
        steps in prop::collection::vec((0u8..3, 0u32..20, 0u8..3), 0..60),
    ) {
        let mut commits = SessionCommits::new([1; 32]);
        let mut begun: Vec<StateCommit> = Vec::new();
        for (step, save_no, session) in steps {
            match step {
                0 => { commits.begin_save().unwrap(); }
                1 => begun.extend(commits.begin_commit()),
                _ => {
                    let seen = StateCommit { save_no, session: [session; 32] };
                    let verdict = commits.observed(seen);
                    if matches!(verdict, cocoon_ledger::session::Verdict::Ours { .. }) {
                        // Known, or older than one that is known.
                        prop_assert!(begun.iter().any(|other| other.session == seen.session && other.save_no >= save_no));
                    }
                }
            }
        }
    }
}
