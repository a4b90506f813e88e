//! The text format of Prometheus, version 0.0.4: families with help, type and samples.
//!
//! A page belongs to one role, which every sample carries as a label. Label values are fixed words of this program,
//! never texts of callers or peers, so that the number of series is bounded.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::histogram::Histogram;

/// Content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A value of a sample. Amounts in nanoTON exceed 64 bits and are written exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Whole.
    Whole(u128),
    /// Seconds, mostly.
    Real(f64),
}

impl From<u128> for Number {
    fn from(n: u128) -> Self {
        Number::Whole(n)
    }
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Number::Whole(u128::from(n))
    }
}

impl From<u32> for Number {
    fn from(n: u32) -> Self {
        Number::Whole(u128::from(n))
    }
}

impl From<usize> for Number {
    fn from(n: usize) -> Self {
        Number::Whole(n as u128)
    }
}

impl From<bool> for Number {
    fn from(yes: bool) -> Self {
        Number::Whole(u128::from(yes))
    }
}

impl From<f64> for Number {
    fn from(n: f64) -> Self {
        Number::Real(n)
    }
}

struct Family {
    help: &'static str,
    kind: Kind,
    lines: String,
}

/// A page being put together. Families may be added by several parts of a node; each appears once.
pub struct Page {
    role: &'static str,
    families: BTreeMap<&'static str, Family>,
}

/// Labels of a sample beside the role.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// An empty page of a role.
    #[must_use]
    pub fn new(role: &'static str) -> Self {
        Page {
            role,
            families: BTreeMap::new(),
        }
    }

    /// A value that only grows while the process lives; the name ends in `_total`.
    pub fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        value: impl Into<Number>,
    ) {
        self.add(name, help, Kind::Counter, labels, value.into());
    }

    /// A value that goes up and down.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        value: impl Into<Number>,
    ) {
        self.add(name, help, Kind::Gauge, labels, value.into());
    }

    /// Observations by size; the name ends in its unit.
    pub fn histogram(&mut self, name: &'static str, help: &'static str, values: &Histogram) {
        let role = self.role;
        let lines = &mut self.family(name, help, Kind::Histogram).lines;
        let mut below = 0;
        for (bound, count) in values.bounds().iter().zip(values.counts()) {
            below += count;
            // Writing to a string cannot fail.
            let _ = writeln!(
                lines,
                "{name}_bucket{{role=\"{role}\",le=\"{bound}\"}} {below}"
            );
        }
        let (count, sum) = (values.count(), values.sum());
        let _ = writeln!(
            lines,
            "{name}_bucket{{role=\"{role}\",le=\"+Inf\"}} {count}"
        );
        let _ = writeln!(lines, "{name}_sum{{role=\"{role}\"}} {sum}");
        let _ = writeln!(lines, "{name}_count{{role=\"{role}\"}} {count}");
    }

    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        self.families.entry(name).or_insert_with(|| Family {
            help,
            kind,
            lines: String::new(),
        })
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
        labels: Labels<'_>,
        value: Number,
    ) {
        let role = self.role;
        let lines = &mut self.family(name, help, kind).lines;
        let _ = write!(lines, "{name}{{role=\"{role}\"");
        for (label, value) in labels {
            let _ = write!(lines, ",{label}=\"{}\"", escaped(value));
        }
        let _ = match value {
            Number::Whole(n) => writeln!(lines, "}} {n}"),
            Number::Real(n) if n.is_nan() => writeln!(lines, "}} NaN"),
            Number::Real(n) if n.is_infinite() => {
                writeln!(lines, "}} {}Inf", if n > 0.0 { '+' } else { '-' })
            }
            Number::Real(n) => writeln!(lines, "}} {n}"),
        };
    }

    /// The page as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            let _ = writeln!(out, "# HELP {name} {}", family.help);
            let _ = writeln!(out, "# TYPE {name} {}", family.kind.name());
            out.push_str(&family.lines);
        }
        out
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_in_the_text_format() {
        let mut page = Page::new("proxy");
        page.gauge("b_tokens", "Of them.", &[("kind", "a\"\\\n")], 5u64);
        page.counter("a_total", "All.", &[], u128::from(u64::MAX) * 10);
        page.gauge("b_tokens", "Of them.", &[("kind", "c")], 0.5);
        let mut h = Histogram::new(&[0.1, 1.0]);
        for value in [0.05, 0.5, 0.75, 9.0] {
            h.observe(value);
        }
        page.histogram("c_seconds", "Time.", &h);
        assert_eq!(
            page.text(),
            "# HELP a_total All.\n\
             # TYPE a_total counter\n\
             a_total{role=\"proxy\"} 184467440737095516150\n\
             # HELP b_tokens Of them.\n\
             # TYPE b_tokens gauge\n\
             b_tokens{role=\"proxy\",kind=\"a\\\"\\\\\\n\"} 5\n\
             b_tokens{role=\"proxy\",kind=\"c\"} 0.5\n\
             # HELP c_seconds Time.\n\
             # TYPE c_seconds histogram\n\
             c_seconds_bucket{role=\"proxy\",le=\"0.1\"} 1\n\
             c_seconds_bucket{role=\"proxy\",le=\"1\"} 3\n\
             c_seconds_bucket{role=\"proxy\",le=\"+Inf\"} 4\n\
             c_seconds_sum{role=\"proxy\"} 10.3\n\
             c_seconds_count{role=\"proxy\"} 4\n"
        );
    }

    #[test]
    fn numbers_that_are_none() {
        let mut page = Page::new("x");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            page.gauge("n", "N.", &[], value);
        }
        let text = page.text();
        let values: Vec<&str> = text
            .lines()
            .filter_map(|l| l.strip_prefix("n{role=\"x\"} "))
            .collect();
        assert_eq!(values, ["NaN", "+Inf", "-Inf"]);
    }
}
