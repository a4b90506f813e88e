//! The figures as JSON and as tables that read well plain and in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::args::Kind;
use crate::error::BenchError;
use crate::load::Outcome;
use crate::machine::Machine;
use crate::process::{Consumed, Memory};
use crate::stats::{Overhead, Summary};

/// Raised when the meaning of a member of the JSON changes.
const FORMAT: u32 = 1;
/// Files of one day and host that are kept beside each other.
const MAX_FILES: u32 = 1000;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this layout.
    pub format: u32,
    /// UTC.
    pub date: String,
    /// Where.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// Seconds from starting `cocoon up` in an empty directory until it was ready.
    pub ready_s: f64,
    /// Seconds from Ctrl-C to the end of the process.
    pub stop_s: f64,
    /// One for each kind and number of callers.
    pub rows: Vec<Row>,
    /// Of the whole network.
    pub memory: MemoryReport,
    /// What else was going on.
    pub others: Others,
    /// What the person who measured says.
    pub notes: Vec<String>,
}

/// How it was measured.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// `release` or `debug`, of this program; the other is normally built alike.
    pub build: &'static str,
    /// Turns of direct and cocoon.
    pub rounds: u16,
    /// Of one turn.
    pub seconds: u64,
    /// Most requests of one turn.
    pub requests: u64,
    /// Of each answer.
    pub tokens: u32,
    /// Between two tokens of a stream.
    pub token_interval_us: u64,
    /// Of each question.
    pub prompt_bytes: u32,
    /// Further arguments of `cocoon up`.
    pub up_args: Vec<String>,
}

/// One way to ask, measured directly and through cocoon.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What was asked.
    pub kind: Kind,
    /// By how many callers.
    pub concurrency: u16,
    /// Straight to the backend.
    pub direct: Side,
    /// Through client, proxy and worker.
    pub cocoon: Side,
    /// Of the whole answer.
    pub overhead: Option<Overhead>,
    /// Of the first byte.
    pub first_byte_overhead: Option<Overhead>,
    /// Processor time of the network per request, milliseconds.
    pub cpu_ms_per_request: Option<f64>,
    /// KiB that the network wrote to the disk per request.
    pub written_kib_per_request: Option<f64>,
    /// Most memory of the network in these rounds, MiB.
    pub rss_mib: f64,
}

/// One side of a row.
#[derive(Debug, Serialize)]
pub struct Side {
    /// Whole answers.
    pub completed: u64,
    /// Whole answers a second, over all rounds.
    pub per_second: f64,
    /// The same, round by round: how steady the machine was.
    pub per_second_rounds: Vec<f64>,
    /// Until the last byte.
    pub latency: Option<Summary>,
    /// Until the first byte of the body.
    pub first_byte: Option<Summary>,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// Failures by text.
    pub errors: BTreeMap<String, u64>,
}

/// Resident memory of the one process that holds chain, proxy, worker and client.
#[derive(Debug, Serialize)]
pub struct MemoryReport {
    /// Said with the figures, since there are none for each node.
    pub of: &'static str,
    /// Ready, nothing asked yet.
    pub before: Memory,
    /// After all requests.
    pub after: Memory,
    /// A few seconds later.
    pub idle: Memory,
}

/// Other processes.
#[derive(Debug, Serialize)]
pub struct Others {
    /// Cores that they kept busy on average while measuring.
    pub cores: f64,
    /// Those that were busy before, with their share of a core.
    pub before: Vec<(String, f64)>,
    /// Those that were busy after.
    pub after: Vec<(String, f64)>,
}

/// What one process holds: said with every memory figure.
pub const ONE_PROCESS: &str =
    "one process with chain, proxy, worker and client (`cocoon up`); not to be told apart per node";

impl Side {
    /// From the rounds.
    pub fn new(rounds: &[Outcome]) -> Self {
        let mut all = Outcome::default();
        rounds.iter().for_each(|r| all.merge(r));
        Side {
            completed: all.completed,
            per_second: all.rate(),
            per_second_rounds: rounds.iter().map(Outcome::rate).collect(),
            latency: all.latency.summary(),
            first_byte: all.first_byte.summary(),
            tokens_per_second: all.token_rate(),
            errors: all.errors,
        }
    }

    fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

impl Row {
    /// From the rounds of both sides.
    pub fn new(
        kind: Kind,
        concurrency: u16,
        direct: &[Outcome],
        cocoon: &[Outcome],
        consumed: Consumed,
        rss_kib: u64,
    ) -> Self {
        let asked: u64 = cocoon
            .iter()
            .map(|o| o.completed + o.warm_up + o.failed())
            .sum();
        let per_request = |total: f64| (asked > 0).then(|| total / asked as f64);
        let (direct, cocoon) = (Side::new(direct), Side::new(cocoon));
        let overhead = |a: Option<Summary>, b: Option<Summary>| Some(Overhead::of(&a?, &b?));
        Row {
            kind,
            concurrency,
            overhead: overhead(direct.latency, cocoon.latency),
            first_byte_overhead: overhead(direct.first_byte, cocoon.first_byte),
            cpu_ms_per_request: per_request(consumed.cpu_s * 1000.0),
            written_kib_per_request: per_request(consumed.written as f64 / 1024.0),
            rss_mib: rss_kib as f64 / 1024.0,
            direct,
            cocoon,
        }
    }
}

impl Report {
    /// Layout of this program's reports.
    pub fn format() -> u32 {
        FORMAT
    }

    /// Every figure, for programs.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What a person wants to see, also right as Markdown.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let s = &self.settings;
        let _ = writeln!(
            out,
            "# Benchmark of {} on {}\n\n{} build, commit {}. {} rounds of {} s each way (at most {} requests), answers of {} tokens, prompts of {} bytes, {} us between the tokens of a stream.\nExtra arguments of `cocoon up`: {}.\n",
            self.date,
            self.machine.host,
            s.build,
            self.machine.commit,
            s.rounds,
            s.seconds,
            s.requests,
            s.tokens,
            s.prompt_bytes,
            s.token_interval_us,
            if s.up_args.is_empty() {
                "none".to_owned()
            } else {
                s.up_args.join(" ")
            },
        );
        out += &self.whole_answers();
        out += &self.streams();
        out += &self.machine_text();
        out
    }

    fn whole_answers(&self) -> String {
        let rows = self.rows.iter().map(|r| {
            let o = r.overhead;
            vec![
                r.kind.name().to_owned(),
                r.concurrency.to_string(),
                rate(r.direct.per_second),
                rate(r.cocoon.per_second),
                ms(r.direct.latency.map(|l| l.p50_ms)),
                ms(r.cocoon.latency.map(|l| l.p50_ms)),
                ms(r.direct.latency.map(|l| l.p99_ms)),
                ms(r.cocoon.latency.map(|l| l.p99_ms)),
                ms(o.map(|o| o.p50_ms)),
                times(o.and_then(|o| o.p50_ratio)),
                ms(o.map(|o| o.p99_ms)),
                times(o.and_then(|o| o.p99_ratio)),
                format!("{} / {}", r.direct.failed(), r.cocoon.failed()),
            ]
        });
        let mut out = "## Whole answers\n\nLatency from sending the request to the last byte, milliseconds. Overhead is the difference of the percentiles.\n\n".to_owned();
        out += &table(
            &[
                "kind",
                "callers",
                "direct req/s",
                "cocoon req/s",
                "direct p50",
                "cocoon p50",
                "direct p99",
                "cocoon p99",
                "overhead p50",
                "x",
                "overhead p99",
                "x",
                "errors d/c",
            ],
            rows,
        );
        for row in &self.rows {
            for (side, errors) in [
                ("direct", &row.direct.errors),
                ("cocoon", &row.cocoon.errors),
            ] {
                for (text, n) in errors {
                    let _ = writeln!(
                        out,
                        "\n{n} errors, {} with {} callers, {side}: {text}",
                        row.kind.name(),
                        row.concurrency
                    );
                }
            }
        }
        out + "\n"
    }

    fn streams(&self) -> String {
        let rows = self.rows.iter().map(|r| {
            let first = |s: &Side, p: fn(&Summary) -> f64| ms(s.first_byte.as_ref().map(p));
            vec![
                r.kind.name().to_owned(),
                r.concurrency.to_string(),
                first(&r.direct, |f| f.p50_ms),
                first(&r.cocoon, |f| f.p50_ms),
                first(&r.direct, |f| f.p99_ms),
                first(&r.cocoon, |f| f.p99_ms),
                rate(r.direct.tokens_per_second),
                rate(r.cocoon.tokens_per_second),
                ms(r.cpu_ms_per_request),
                r.written_kib_per_request
                    .map_or_else(|| "-".to_owned(), |k| format!("{k:.1}")),
                format!("{:.0}", r.rss_mib),
            ]
        });
        let mut out = "## First byte, tokens, and what the network consumes\n\nFirst byte of the body in milliseconds; processor time and disk of the whole `cocoon up` process per request.\n\n".to_owned();
        out += &table(
            &[
                "kind",
                "callers",
                "direct first p50",
                "cocoon first p50",
                "direct first p99",
                "cocoon first p99",
                "direct tok/s",
                "cocoon tok/s",
                "CPU ms/req",
                "KiB written/req",
                "RSS MiB",
            ],
            rows,
        );
        out + "\n"
    }

    fn machine_text(&self) -> String {
        let m = &self.machine;
        let mib = |kib: u64| kib as f64 / 1024.0;
        let names = |list: &[(String, f64)]| {
            if list.is_empty() {
                return "none".to_owned();
            }
            let all: Vec<String> = list
                .iter()
                .map(|(n, s)| format!("{n} {:.0} %", s * 100.0))
                .collect();
            all.join(", ")
        };
        let mut out = format!(
            "## Memory\n\n{}: {:.0} MiB resident before the first request, {:.0} MiB after the last, {:.0} MiB some seconds later, {:.0} MiB at most since its start; {} threads.\n\n",
            self.memory.of,
            mib(self.memory.before.rss_kib),
            mib(self.memory.after.rss_kib),
            mib(self.memory.idle.rss_kib),
            mib(self.memory.idle.peak_kib),
            self.memory.idle.threads,
        );
        let _ = writeln!(
            out,
            "## Machine\n\n* {} logical cores ({}), {} MiB memory, {}, {}\n* writing 4 KiB durably (fdatasync): p50 {} ms, p99 {} ms\n* `cocoon up` in an empty directory: ready after {:.1} s; stopped {:.1} s after Ctrl-C",
            m.cores,
            m.cpu,
            m.memory_mib,
            m.kernel,
            m.rustc,
            ms(m.fsync.map(|f| f.p50_ms)),
            ms(m.fsync.map(|f| f.p99_ms)),
            self.ready_s,
            self.stop_s,
        );
        let _ = writeln!(
            out,
            "* backend, load generator and network share these cores\n* other processes kept {:.2} cores busy on average while measuring; busy before: {}; after: {}",
            self.others.cores,
            names(&self.others.before),
            names(&self.others.after),
        );
        for note in &self.notes {
            let _ = writeln!(out, "* {note}");
        }
        out
    }

    /// Writes both forms, never over earlier ones; the paths.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, BenchError> {
        let io = |path: &Path| {
            let what = format!("writing {}", path.display());
            move |e| BenchError::Io(what, e)
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let stem = format!("{}-{}", self.date, self.machine.host);
        let paths = (1..=MAX_FILES)
            .map(|n| {
                if n == 1 {
                    stem.clone()
                } else {
                    format!("{stem}-{n}")
                }
            })
            .map(|name| {
                [
                    dir.join(format!("{name}.json")),
                    dir.join(format!("{name}.md")),
                ]
            })
            .find(|paths| paths.iter().all(|p| !p.exists()))
            .ok_or_else(|| {
                BenchError::Network(format!(
                    "{} holds {MAX_FILES} results of today",
                    dir.display()
                ))
            })?;
        for (path, text) in paths.iter().zip([self.json() + "\n", self.text()]) {
            std::fs::write(path, text).map_err(io(path))?;
        }
        Ok(paths.to_vec())
    }
}

fn ms(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(v) if v.abs() < 10.0 => format!("{v:.2}"),
        Some(v) => format!("{v:.1}"),
    }
}

fn times(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.1}"))
}

fn rate(value: f64) -> String {
    if value == 0.0 {
        "-".to_owned()
    } else if value < 100.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A Markdown table with its columns aligned, so that it reads well as it stands.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines = vec![head.iter().map(ToString::to_string).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| {
        lines
            .iter()
            .filter_map(|l| Some(l.get(column)?.len()))
            .max()
            .unwrap_or(0)
            .max(3)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for (n, line) in lines.iter().enumerate() {
        for (column, width) in widths.iter().enumerate() {
            let cell = line.get(column).map_or("", String::as_str);
            // Names to the left, figures to the right.
            let _ = if column == 0 {
                write!(out, "| {cell:<width$} ")
            } else {
                write!(out, "| {cell:>width$} ")
            };
        }
        out += "|\n";
        if n == 0 {
            for (column, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                let _ = if column == 0 {
                    write!(out, "|:{dashes}-")
                } else {
                    write!(out, "|-{dashes}:")
                };
            }
            out += "|\n";
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn outcome(completed: u64, each_ms: u64, seconds: u64) -> Outcome {
        let mut o = Outcome {
            completed,
            tokens: completed * 10,
            elapsed: Duration::from_secs(seconds),
            ..Outcome::default()
        };
        for _ in 0..completed {
            o.latency.push(each_ms * 1_000_000);
            o.first_byte.push(500_000);
        }
        o
    }

    fn report() -> Report {
        let mut broken = outcome(20, 6, 1);
        broken.errors.insert("503: no worker".to_owned(), 5);
        let consumed = Consumed {
            cpu_s: 0.05,
            written: 50 * 1024,
        };
        let row = Row::new(
            Kind::Stream,
            8,
            &[outcome(100, 2, 1), outcome(300, 2, 1)],
            &[outcome(25, 6, 1), broken],
            consumed,
            51_200,
        );
        let memory = Memory {
            rss_kib: 40_960,
            peak_kib: 51_200,
            threads: 9,
        };
        Report {
            format: Report::format(),
            date: "2026-11-22".to_owned(),
            machine: Machine::look(Some("test box"), &std::env::temp_dir()),
            settings: Settings {
                build: "debug",
                rounds: 2,
                seconds: 1,
                requests: 1000,
                tokens: 10,
                token_interval_us: 0,
                prompt_bytes: 100,
                up_args: Vec::new(),
            },
            ready_s: 1.0,
            stop_s: 0.5,
            rows: vec![row],
            memory: MemoryReport {
                of: ONE_PROCESS,
                before: memory,
                after: memory,
                idle: memory,
            },
            others: Others {
                cores: 0.1,
                before: vec![("cc".to_owned(), 0.5)],
                after: Vec::new(),
            },
            notes: vec!["nothing".to_owned()],
        }
    }

    #[test]
    fn rates_and_costs_are_of_all_rounds() {
        let report = report();
        let row = &report.rows[0];
        assert_eq!(row.direct.per_second, 200.0);
        assert_eq!(row.direct.per_second_rounds, [100.0, 300.0]);
        assert_eq!(row.direct.tokens_per_second, 2000.0);
        assert_eq!(row.cocoon.per_second, 22.5);
        // 45 answers and 5 failures took the processor.
        assert_eq!(row.cpu_ms_per_request, Some(1.0));
        assert_eq!(row.written_kib_per_request, Some(1.0));
        let o = row.overhead.unwrap();
        assert_eq!((o.p50_ms, o.p50_ratio), (4.0, Some(3.0)));
    }

    #[test]
    fn errors_and_memory_are_not_hidden() {
        let text = report().text();
        for what in [
            "| 0 / 5 |",
            "5 errors, stream with 8 callers, cocoon: 503: no worker",
            "not to be told apart per node",
            "cc 50 %",
            "* nothing",
        ] {
            let squeezed = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(squeezed.contains(what), "{what} is missing in\n{text}");
        }
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["chat".to_owned(), "1234.5".to_owned()].to_vec()];
        assert_eq!(
            table(&["kind", "x"], rows.into_iter()),
            "| kind |      x |\n|:-----|-------:|\n| chat | 1234.5 |\n"
        );
    }

    #[test]
    fn earlier_results_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let report = report();
        let first = report.write(dir.path()).unwrap();
        let second = report.write(dir.path()).unwrap();
        assert!(first[0].ends_with("2026-11-22-test-box.json"));
        assert!(second[1].ends_with("2026-11-22-test-box-2.md"));
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&first[0]).unwrap()).unwrap();
        assert_eq!(json["rows"][0]["kind"], "stream");
        assert_eq!(json["rows"][0]["cocoon"]["errors"]["503: no worker"], 5);
    }
}
