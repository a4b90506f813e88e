//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  cargo build --release -p cocoon -p cocoon-bench && target/release/cocoon-bench
  cocoon-bench --concurrency 1 --kinds chat --rounds 1 --seconds 1 --no-write
  cocoon-bench --kinds stream --token-interval-us 10000 --note 'laptop, on mains'
  cocoon-bench --json --no-write > figures.json

The machine should have nothing else to do: what other processes took is measured and written down.";

/// Measures what the network costs: the same requests straight to a fixed-answer server, and through `cocoon up`.
#[derive(Debug, Clone, Parser)]
#[command(name = "cocoon-bench", version, about, after_help = EXAMPLES)]
pub struct Args {
    /// The cocoon program [default: beside this program]
    #[arg(long, value_name = "FILE")]
    pub cocoon: Option<PathBuf>,
    /// How many callers ask at the same time, one after the other
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_values_t = [1, 8, 64], value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: Vec<u16>,
    /// What is asked
    #[arg(long, value_name = "KIND,KIND", value_enum, value_delimiter = ',', default_values_t = [Kind::Models, Kind::Chat, Kind::Stream])]
    pub kinds: Vec<Kind>,
    /// Length of one measurement; each round has two, one direct and one through cocoon
    #[arg(long, value_name = "SECONDS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub seconds: u64,
    /// A measurement ends early after this many requests
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub requests: u64,
    /// How often direct and cocoon take turns
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tokens: u32,
    /// Pause of the backend between two tokens of a stream; 0 sends as fast as the socket takes them
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub token_interval_us: u64,
    /// Length of the prompt
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub prompt_bytes: u32,
    /// A further argument for `cocoon up`; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub up_arg: Vec<String>,
    /// How long the network may take to start
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    pub start_timeout: u64,
    /// Where the figures are written
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    pub results: PathBuf,
    /// Write no files
    #[arg(long)]
    pub no_write: bool,
    /// Name of this machine in the results [default: its host name]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// What else the reader should know, for example what was running beside
    #[arg(long, value_name = "TEXT")]
    pub note: Vec<String>,
    /// Print the figures as one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
    /// Keep the network's data directory and its log
    #[arg(long)]
    pub keep: bool,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `GET /v1/models`: through cocoon the client alone answers, no other node takes part
    Models,
    /// A chat completion in one piece
    Chat,
    /// A chat completion as an event stream
    Stream,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Models => "models",
            Kind::Chat => "chat",
            Kind::Stream => "stream",
        }
    }
}

impl Args {
    /// Length of one measurement.
    pub fn slice(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Pause between two tokens.
    pub fn token_interval(&self) -> Duration {
        Duration::from_micros(self.token_interval_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        let args = Args::parse_from(["cocoon-bench"]);
        assert_eq!(args.concurrency, [1, 8, 64]);
        assert_eq!(args.kinds, [Kind::Models, Kind::Chat, Kind::Stream]);
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            &["--concurrency", "0"][..],
            &["--rounds", "0"],
            &["--kinds", "chats"],
            &["--frobnicate"],
        ] {
            let line = ["cocoon-bench"].iter().chain(bad);
            assert!(Args::try_parse_from(line).is_err(), "{bad:?}");
        }
    }
}
