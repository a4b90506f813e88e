//! The machine that was measured on, and when.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::stats::{Samples, Summary};

/// How often the disk is asked; together well below a second on anything but a floppy.
const SYNCS: usize = 50;

/// What a reader must know to compare.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// Name under which the results are kept.
    pub host: String,
    /// Logical cores.
    pub cores: usize,
    /// The processor's own name.
    pub cpu: String,
    /// Memory of the machine.
    pub memory_mib: u64,
    /// Operating system and kernel.
    pub kernel: String,
    /// Compiler.
    pub rustc: String,
    /// Commit of the sources, with `+changes` if the work tree had others.
    pub commit: String,
    /// Writing 4 KiB and making them durable, where the network keeps its data.
    pub fsync: Option<Summary>,
}

impl Machine {
    /// Looks; `dir` is where the network keeps its data.
    pub fn look(host: Option<&str>, dir: &Path) -> Self {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            text.lines().find_map(|l| {
                Some(
                    l.strip_prefix(name)?
                        .trim_start()
                        .strip_prefix(':')?
                        .trim()
                        .to_owned(),
                )
            })
        };
        let commit = command("git", &["rev-parse", "--short=12", "HEAD"]);
        let changed = command("git", &["status", "--porcelain", "--untracked-files=no"]);
        Machine {
            host: safe_name(
                host.map_or_else(|| file("/proc/sys/kernel/hostname"), str::to_owned)
                    .trim(),
            ),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: field(&file("/proc/cpuinfo"), "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            memory_mib: field(&file("/proc/meminfo"), "MemTotal")
                .and_then(|v| v.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            kernel: command("uname", &["-srm"]).unwrap_or_else(|| std::env::consts::OS.to_owned()),
            rustc: command("rustc", &["--version"]).unwrap_or_else(|| "unknown".to_owned()),
            commit: match (commit, changed) {
                (None, _) => "unknown".to_owned(),
                (Some(c), Some(text)) if !text.is_empty() => c + "+changes",
                (Some(c), _) => c,
            },
            fsync: fsync(dir),
        }
    }
}

fn command(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok()?;
    out.status
        .success()
        .then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

fn fsync(dir: &Path) -> Option<Summary> {
    let path = dir.join("fsync-probe");
    let mut file = std::fs::File::create(&path).ok()?;
    let mut samples = Samples::default();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[1; 4096]).ok()?;
        file.sync_data().ok()?;
        samples.push(u64::try_from(start.elapsed().as_nanos()).ok()?);
    }
    let _ = std::fs::remove_file(path);
    samples.summary()
}

/// A name that is a file name everywhere.
fn safe_name(name: &str) -> String {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    if safe.is_empty() {
        "unnamed".to_owned()
    } else {
        safe
    }
}

/// Today, in UTC, like 2026-11-22.
pub fn today() -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    date(now / 86_400)
}

/// The date of a day since 1970-01-01, counted year by year and month by month.
fn date(mut day: u64) -> String {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let days = if leap(year) { 366 } else { 365 };
        if day < days {
            break;
        }
        day -= days;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < days {
            break;
        }
        day -= days;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        for (day, text) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (364, "1970-12-31"),
            (365, "1971-01-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_779, "2026-11-22"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), text);
        }
    }

    #[test]
    fn host_names_become_file_names() {
        assert_eq!(safe_name("a.b/../c d"), "a-b----c-d");
        assert_eq!(safe_name(""), "unnamed");
        assert_eq!(safe_name(&"x".repeat(99)).len(), 40);
    }

    #[test]
    fn the_disk_is_asked_and_left_clean() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fsync(dir.path()).unwrap().count, SYNCS);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
