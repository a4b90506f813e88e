//! What the kernel says about processes (Linux, `/proc`): memory, processor time, bytes written, and who else was busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Ticks a second of the times in `/proc`; fixed in Linux' interface whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(50);
/// A process below this share of one core is not worth naming.
const BUSY: f64 = 0.03;

/// Memory of a process, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident now.
    pub rss_kib: u64,
    /// The most that was ever resident, since the process started.
    pub peak_kib: u64,
    /// Threads.
    pub threads: u64,
}

/// What a process has consumed so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Consumed {
    /// Processor seconds, user and system.
    pub cpu_s: f64,
    /// Bytes handed to the disk.
    pub written: u64,
}

impl Consumed {
    /// What was added since `earlier`.
    pub fn since(self, earlier: Consumed) -> Consumed {
        Consumed {
            cpu_s: self.cpu_s - earlier.cpu_s,
            written: self.written.saturating_sub(earlier.written),
        }
    }

    /// Both together.
    pub fn plus(self, other: Consumed) -> Consumed {
        Consumed {
            cpu_s: self.cpu_s + other.cpu_s,
            written: self.written + other.written,
        }
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// Memory of a process; `None` if it is gone.
pub fn memory(pid: u32) -> Option<Memory> {
    parse_status(&read(&format!("/proc/{pid}/status"))?)
}

fn parse_status(status: &str) -> Option<Memory> {
    let field = |name: &str| {
        status.lines().find_map(|l| {
            l.strip_prefix(name)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
    };
    Some(Memory {
        rss_kib: field("VmRSS:")?,
        peak_kib: field("VmHWM:")?,
        threads: field("Threads:")?,
    })
}

/// What a process has consumed so far; zeros if it is gone.
pub fn consumed(pid: u32) -> Consumed {
    let cpu = read(&format!("/proc/{pid}/stat")).and_then(|s| parse_stat(&s).map(|(_, t)| t));
    let written = read(&format!("/proc/{pid}/io")).and_then(|io| {
        io.lines()
            .find_map(|l| l.strip_prefix("write_bytes: ")?.trim().parse().ok())
    });
    Consumed {
        cpu_s: cpu.unwrap_or(0) as f64 / TICKS_PER_SECOND,
        written: written.unwrap_or(0),
    }
}

/// Name and ticks (user and system). The name may hold anything, also spaces and brackets.
fn parse_stat(stat: &str) -> Option<(String, u64)> {
    let (open, close) = (stat.find('(')?, stat.rfind(')')?);
    let rest: Vec<&str> = stat.get(close + 1..)?.split_whitespace().collect();
    let ticks = |at: usize| rest.get(at)?.parse::<u64>().ok();
    Some((
        stat.get(open + 1..close)?.to_owned(),
        ticks(11)?.checked_add(ticks(12)?)?,
    ))
}

/// Seconds that all cores together have worked since the machine started.
fn machine_busy() -> f64 {
    read("/proc/stat")
        .and_then(|s| s.lines().next().map(parse_cpu_line))
        .unwrap_or(0) as f64
        / TICKS_PER_SECOND
}

/// Ticks of user, nice, system, irq and softirq.
fn parse_cpu_line(line: &str) -> u64 {
    line.split_whitespace()
        .skip(1)
        .enumerate()
        .filter(|(n, _)| [0, 1, 2, 5, 6].contains(n))
        .filter_map(|(_, v)| v.parse::<u64>().ok())
        .sum()
}

/// Measures how much of the machine others take while something runs.
pub struct Quiet {
    own: Vec<u32>,
    start: Instant,
    machine: f64,
    ours: f64,
}

impl Quiet {
    /// Starts; `own` are the processes that do not count as others.
    pub fn start(own: Vec<u32>) -> Self {
        let ours = own.iter().map(|p| consumed(*p).cpu_s).sum();
        Quiet {
            own,
            start: Instant::now(),
            machine: machine_busy(),
            ours,
        }
    }

    /// Cores that others kept busy, on average.
    pub fn others(&self) -> f64 {
        let ours: f64 = self.own.iter().map(|p| consumed(*p).cpu_s).sum();
        let others = (machine_busy() - self.machine) - (ours - self.ours);
        (others / self.start.elapsed().as_secs_f64()).max(0.0)
    }
}

/// Names and shares of a core of the other processes that are busy now; takes a second.
pub fn busy(own: &[u32]) -> Vec<(String, f64)> {
    let all = || -> Vec<(u32, String, u64)> {
        let Ok(dir) = std::fs::read_dir("/proc") else {
            return Vec::new();
        };
        dir.filter_map(|e| {
            let pid: u32 = e.ok()?.file_name().to_str()?.parse().ok()?;
            let (name, ticks) = parse_stat(&read(&format!("/proc/{pid}/stat"))?)?;
            Some((pid, name, ticks))
        })
        .collect()
    };
    let (before, start) = (all(), Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let seconds = start.elapsed().as_secs_f64();
    let mut out: Vec<(String, f64)> = all()
        .into_iter()
        .filter(|(pid, ..)| !own.contains(pid))
        .filter_map(|(pid, name, ticks)| {
            let earlier = before
                .iter()
                .find(|(p, ..)| *p == pid)
                .map_or(0, |(_, _, t)| *t);
            let share = ticks.saturating_sub(earlier) as f64 / TICKS_PER_SECOND / seconds;
            (share >= BUSY).then_some((name, share))
        })
        .collect();
    out.sort_by(|a, b| b.1.total_cmp(&a.1));
    out
}

/// Watches the memory of a process and remembers the most.
pub struct Watcher {
    most: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Watches until dropped.
    pub fn start(pid: u32) -> Self {
        let (most, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (m, s) = (most.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                if let Some(now) = memory(pid) {
                    m.fetch_max(now.rss_kib, Ordering::Relaxed);
                }
                std::thread::sleep(SAMPLE);
            }
        });
        Watcher {
            most,
            stop,
            thread: Some(thread),
        }
    }

    /// The most since the last call, in KiB.
    pub fn take(&self) -> u64 {
        self.most.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_are_read() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t7\n";
        assert_eq!(
            parse_status(status),
            Some(Memory {
                rss_kib: 1024,
                peak_kib: 2048,
                threads: 7
            })
        );
        assert_eq!(parse_status("Name: x\n"), None);
        let stat = "12 (a (b) c) S 1 12 12 0 -1 4194560 500 0 0 0 30 12 0 0 20 0 1 0 9 0 0";
        assert_eq!(parse_stat(stat), Some(("a (b) c".to_owned(), 42)));
        assert_eq!(parse_stat("12 (a"), None);
        assert_eq!(parse_stat("12 )a("), None);
        assert_eq!(parse_cpu_line("cpu  1 2 4 1000 1000 8 16 1000 1000 0"), 31);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let now = memory(pid).unwrap();
        assert!(now.rss_kib > 0 && now.peak_kib >= now.rss_kib && now.threads > 0);
        // A tick of processor time comes soon, even on a crowded machine.
        let start = Instant::now();
        while consumed(pid).cpu_s == 0.0 {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert_eq!(memory(u32::MAX), None);
    }
}
