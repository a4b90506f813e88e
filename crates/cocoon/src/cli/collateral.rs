//! Flags of `cocoon attest collateral`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use cocoon_attest::evidence::snp::Generation;
use cocoon_collateral::service::Authority;

/// Commands about a directory of collateral.
#[derive(Debug, Clone, Subcommand)]
pub enum CollateralCommand {
    /// Fetch collateral into a directory, checked to the maker's root; without a wish, refresh what is there
    #[command(
        after_help = "Examples:\n  cocoon attest collateral fetch --directory collateral --quote quote.dat\n  cocoon attest collateral fetch --directory collateral --fmspc 90c06f000000 --ca platform\n  cocoon attest collateral fetch --directory collateral --service https://pccs.example:8081 --ca-file pccs.pem\n  cocoon attest collateral fetch --directory collateral --snp-report report.bin\n\nOne line for each is printed when it is there. The exit code is 1 if one of them could not be fetched."
    )]
    Fetch(FetchArgs),
    /// List what a directory holds
    #[command(
        after_help = "Example:\n  cocoon attest collateral list --directory collateral --json"
    )]
    List(LookArgs),
    /// Check every file of a directory: exit code 0 if all are genuine and of now, 1 if not
    #[command(
        after_help = "Example:\n  cocoon attest collateral check --directory collateral --at 2026-02-20T00:00:00Z"
    )]
    Check(LookArgs),
}

/// Flags of `fetch`.
#[derive(Debug, Clone, Args)]
pub struct FetchArgs {
    /// Where it is kept; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// Intel's service or a cache of it (PCCS) [default: https://api.trustedservices.intel.com]
    #[arg(long, value_name = "URL")]
    pub service: Option<String>,
    /// AMD's service, or a server that answers like it [default: https://kdsintf.amd.com]
    #[arg(long, value_name = "URL")]
    pub amd_service: Option<String>,
    /// File with a key for Intel's service
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Authorities (PEM) that vouch for the services, instead of those of the machine
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Ask in clear, also over a network
    #[arg(long)]
    pub allow_plain_http: bool,
    /// For the platform of this TDX quote
    #[arg(long, value_name = "FILE")]
    pub quote: Vec<PathBuf>,
    /// For this platform family: 12 hexadecimal digits
    #[arg(long, value_name = "HEX", requires = "ca")]
    pub fmspc: Option<String>,
    /// Who issued the platforms' certificates
    #[arg(long, value_enum, value_name = "AUTHORITY", requires = "fmspc")]
    pub ca: Option<Ca>,
    /// For the chip of this SEV-SNP report
    #[arg(long, value_name = "FILE")]
    pub snp_report: Vec<PathBuf>,
    /// Processor generation of reports that do not say it
    #[arg(long, value_enum, value_name = "NAME", requires = "snp_report")]
    pub generation: Option<ChipGeneration>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Flags of `list` and `check`.
#[derive(Debug, Clone, Args)]
pub struct LookArgs {
    /// The directory
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// Moment for which to judge, like 2026-02-20T00:00:00Z or Unix seconds [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Intel's authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ca {
    /// Machines with several packages
    Platform,
    /// Machines with one
    Processor,
}

impl From<Ca> for Authority {
    fn from(ca: Ca) -> Self {
        match ca {
            Ca::Platform => Authority::Platform,
            Ca::Processor => Authority::Processor,
        }
    }
}

/// AMD's generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChipGeneration {
    /// EPYC 7003
    Milan,
    /// EPYC 9004 and 8004
    Genoa,
    /// EPYC 9005
    Turin,
}

impl From<ChipGeneration> for Generation {
    fn from(generation: ChipGeneration) -> Self {
        match generation {
            ChipGeneration::Milan => Generation::Milan,
            ChipGeneration::Genoa => Generation::Genoa,
            ChipGeneration::Turin => Generation::Turin,
        }
    }
}
