//! Every message of the scheme, whole and damaged, at every step of a handshake and of a request, to each role: it is
//! answered, ignored, or ends its own link. No core panics, no money moves that was not earned, and others go on.

mod mini;
#[allow(dead_code)]
mod sim;
#[path = "../../wire/tests/support/mod.rs"]
mod support;

use cocoon_wire::msg::catalogue::CONSTRUCTORS;
use mini::{CLIENT, OTHER_CLIENT, PROXY, WORKER, World};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sim::bend::{self, Loot};
use sim::node::{Core, Role};
use support::Random;
use support::scheme::Scheme;

/// Deliveries from the first dial to the end of a request, so that every state of every core is met.
fn steps_of_a_life() -> usize {
    let mut w = World::new();
    (1..200).find(|n| !w.victims_at(*n)).expect("a life ends") - 1
}

fn role_of(node: usize) -> Role {
    match node {
        PROXY => Role::Proxy,
        CLIENT | OTHER_CLIENT => Role::Client,
        _ => Role::Worker,
    }
}

/// Messages to one node on one link, at every step.
fn attack(to: usize, from: usize, damages: usize) {
    let (scheme, mut random) = (Scheme::new(), Random(42));
    let mut rng = ChaCha8Rng::seed_from_u64(to as u64 * 10 + from as u64);
    let mut w = World::new();
    w.others_go_on("at the start");
    let loot = Loot::default();
    // The last ones differ from life to life, by what the victims did before.
    let steps = steps_of_a_life() - 6;
    assert!(steps > 25, "only {steps} steps: nothing was done");
    for step in 0..steps {
        assert!(w.victims_at(step), "step {step} is not reached");
        for (n, entry) in CONSTRUCTORS.iter().enumerate() {
            for way in 0..3 {
                let mut data = Vec::new();
                scheme.random_boxed(entry.name, &mut random, &mut data);
                let what = format!(
                    "step {step}, {} as {way} from node {from} to {:?}",
                    entry.name,
                    role_of(to)
                );
                w.inject(to, from, way, data.clone());
                for _ in 0..damages {
                    let bad = bend::damage(&mut rng, data.clone(), &loot);
                    w.inject(to, from, way, bad);
                }
                let alive = w.links[if to == PROXY { from } else { to }] > 0;
                // What a link has survived must not matter to what comes next, so most of them live on.
                if !alive || way == 2 || n % 8 == 0 {
                    w.drain();
                    assert!(w.victims_at(step), "{what}: a new link does not get as far");
                }
                // An operator may look at any time (11 #24).
                match &w.cores[to] {
                    Core::Client(c) => assert!(c.stats().is_object()),
                    Core::Worker(c) => assert!(c.stats().is_object()),
                    Core::Proxy(_) => {}
                }
                let (_, clients, workers) = w.books();
                assert_eq!(clients, workers, "{what}: the books contradict themselves");
            }
        }
        w.drain();
        w.others_go_on(&format!("after step {step}"));
    }
}

#[test]
fn a_client_can_tell_a_proxy_anything() {
    attack(PROXY, CLIENT, 1);
}

#[test]
fn a_worker_can_tell_a_proxy_anything() {
    attack(PROXY, WORKER, 1);
}

#[test]
fn a_proxy_can_tell_a_client_anything() {
    attack(CLIENT, PROXY, 1);
}

#[test]
fn a_proxy_can_tell_a_worker_anything() {
    attack(WORKER, PROXY, 1);
}
