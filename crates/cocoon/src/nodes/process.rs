//! Figures of this process: for `/metrics`, and for `/perf` in words.

use std::fmt::Write;

use cocoon_node::metrics::Page;

use super::chain_look::unix_now;

/// Clock ticks of `/proc` a second; 100 on every Linux that runs this.
const TICKS: f64 = 100.0;
/// Bytes of a memory page, as `/proc` counts on x86-64 and most other machines.
const PAGE_BYTES: u64 = 4096;

/// What the system says of this process. Zero where it says nothing.
#[derive(Debug, Default)]
pub struct Process {
    /// Bytes in memory.
    pub resident: u64,
    /// Seconds of processor time.
    pub cpu_s: f64,
    /// Open files and sockets.
    pub files: u64,
    /// Threads of the system.
    pub threads: u64,
    /// When it began, Unix seconds.
    pub started_at: u64,
}

impl Process {
    /// Looks now.
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program stands in brackets and may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
        let files = std::fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count() as u64);
        Process {
            resident: number(21).unwrap_or(0) * PAGE_BYTES,
            cpu_s: (number(11).unwrap_or(0) + number(12).unwrap_or(0)) as f64 / TICKS,
            files,
            threads: number(17).unwrap_or(0),
            started_at: started_at(number(19)),
        }
    }
}

/// From the ticks between the start of the machine and that of the process.
fn started_at(ticks: Option<u64>) -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let booted = stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))
        .and_then(|text| text.trim().parse::<u64>().ok());
    booted.map_or(0, |at| at + ticks.unwrap_or(0) / TICKS as u64)
}

/// Writes the figures of the process to a page.
pub fn expose(page: &mut Page) {
    let process = Process::now();
    page.gauge(
        "cocoon_build_info",
        "The program; its version is a label.",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1u64,
    );
    page.gauge(
        "cocoon_start_time_seconds",
        "Unix time at which the process started.",
        &[],
        process.started_at,
    );
    page.gauge(
        "cocoon_resident_memory_bytes",
        "Memory of the process.",
        &[],
        process.resident,
    );
    page.counter(
        "cocoon_cpu_seconds_total",
        "Processor time of the process.",
        &[],
        process.cpu_s,
    );
    page.gauge(
        "cocoon_open_files",
        "Open files and sockets of the process.",
        &[],
        process.files,
    );
}

/// `/perf`: the scheduler and the process, for people.
pub fn perf(role: &str) -> String {
    let process = Process::now();
    let scheduler = tokio::runtime::Handle::current().metrics();
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<24} {value}");
    };
    line("role", role.to_owned());
    line("version", env!("CARGO_PKG_VERSION").to_owned());
    line("time", unix_now().to_string());
    line("scheduler threads", scheduler.num_workers().to_string());
    line("tasks alive", scheduler.num_alive_tasks().to_string());
    line("tasks waiting", scheduler.global_queue_depth().to_string());
    line("system threads", process.threads.to_string());
    line("cpu seconds", format!("{:.2}", process.cpu_s));
    line(
        "resident memory MiB",
        format!("{:.1}", process.resident as f64 / 1_048_576.0),
    );
    line("open files", process.files.to_string());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_process_is_seen() {
        let process = Process::now();
        assert!(process.started_at.abs_diff(unix_now()) < 24 * 3600);
        assert!(process.resident > 1 << 20 && process.files >= 3 && process.threads >= 1);
        let text = perf("proxy");
        assert!(text.contains("tasks alive") && text.contains("proxy"));
    }
}
