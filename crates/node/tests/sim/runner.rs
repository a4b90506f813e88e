//! Many seeds on all cores, and what is said of those that fail.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Figures, Plan, Sim};

/// After so many failures no more seeds are tried: more would say nothing new.
const ENOUGH: usize = 5;

thread_local! {
    /// Where the last panic of this thread came from.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics inside a run are part of its report, not noise on the terminal.
fn catch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let running = PANIC.with(|p| {
                let mut p = p.borrow_mut();
                let running = p.is_some();
                if running {
                    *p = Some(info.to_string());
                }
                running
            });
            if !running {
                usual(info);
            }
        }));
    });
}

/// One run to its end. A panic, of a core or of the world, is a failure like any other.
pub fn run(plan: Plan, tracing: bool) -> Result<Figures, String> {
    catch_panics();
    let mut sim = Sim::new(plan);
    sim.tracing = tracing;
    PANIC.with(|p| *p.borrow_mut() = Some(String::new()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        sim.run().and_then(|f| sim.check_earned().map(|()| f))
    }));
    let panic = PANIC.with(|p| p.borrow_mut().take());
    result.unwrap_or_else(|_| Err(sim.report(&panic.unwrap_or_default())))
}

/// What a sweep came to.
#[derive(Default)]
pub struct Sweep {
    pub runs: u64,
    pub total: Figures,
    /// Reports, each with the last events of its run.
    pub failures: Vec<String>,
}

/// Runs all seeds of a range, on as many threads as there are cores.
pub fn sweep(seeds: std::ops::Range<u64>, plan: impl Fn(u64) -> Plan + Sync) -> Sweep {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(seeds.start);
    let (stop, result) = (AtomicBool::new(false), Mutex::new(Sweep::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Sweep::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    own.runs += 1;
                    match run(plan(seed), false) {
                        Ok(f) => own.total.add(&f),
                        Err(_) => {
                            // Again, and this time somebody takes notes.
                            let report = run(plan(seed), true).err();
                            let vague = || format!("seed {seed} failed once and passed again");
                            let report = report.unwrap_or_else(vague);
                            let mut all = result.lock().unwrap_or_else(|e| e.into_inner());
                            all.failures.push(report);
                            if all.failures.len() >= ENOUGH {
                                stop.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                }
                let mut all = result.lock().unwrap_or_else(|e| e.into_inner());
                all.runs += own.runs;
                all.total.add(&own.total);
            });
        }
    });
    result.into_inner().unwrap_or_else(|e| e.into_inner())
}
