//! Flags of `cocoon attest host`, `quote`, `gpu` and `extend`: the guest's side.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Which machine is asked.
#[derive(Debug, Clone, Args)]
pub struct MachineArgs {
    /// Look at the /proc and /sys under this directory instead of this machine's, such as a recorded tree
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// Options of `cocoon attest host`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cocoon attest host\n  cocoon attest host --events /run/cocoon/rtmr3.log\n  cocoon attest host --json\n\nNothing is changed and nothing is signed. Registers and event log are shown where the kernel shows them to this user."
)]
pub struct HostArgs {
    /// Log of text events measured into RTMR3, as 'cocoon attest extend --events' writes it
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Which machine is asked
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Whose evidence is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum QuoteKind {
    /// Whatever this machine signs with
    Auto,
    /// A TDX quote
    Tdx,
    /// An SEV-SNP report
    Snp,
}

/// Options of `cocoon attest quote`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cocoon attest quote --out quote.dat\n  cocoon attest quote --report-data 00ff --json\n  cocoon attest quote --kind snp --out report.bin --auxiliary certificates.bin\n\nThe evidence goes to a file, or in hexadecimal to the terminal. It proves nothing by itself: see cocoon attest explain."
)]
pub struct QuoteArgs {
    /// Up to 64 bytes that the evidence shall carry, hexadecimal; zeros follow shorter ones [default: 64 zero bytes]
    #[arg(long, value_name = "HEX")]
    pub report_data: Option<String>,
    /// Whose evidence
    #[arg(long, value_enum, default_value_t = QuoteKind::Auto)]
    pub kind: QuoteKind,
    /// File for the evidence
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// File for the host's certificates, which come with an SEV-SNP report
    #[arg(long, value_name = "FILE")]
    pub auxiliary: Option<PathBuf>,
    /// Which machine is asked
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `cocoon attest gpu`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cocoon attest gpu ./gpu-evidence\n  cocoon attest gpu ./gpu-evidence --nonce 5a5a...5a\n\nWrites gpuN-report.bin and gpuN-chain.pem for every GPU, which cocoon attest explain reads. It needs a build with\n--features nvml and a GPU in confidential computing mode."
)]
pub struct GpuArgs {
    /// Directory for the evidence; made if it is missing
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// 32 bytes that the reports shall carry, hexadecimal [default: random ones]
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Options of `cocoon attest extend`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cocoon attest extend cocoon:tdx_inited --events /run/cocoon/rtmr3.log\n  cocoon attest extend --digest <96 hex digits>\n\nA register that was extended stays so until the machine is started again."
)]
pub struct ExtendArgs {
    /// Text to measure: the register is extended by its SHA-384
    #[arg(value_name = "MESSAGE", required_unless_present = "digest")]
    pub message: Option<String>,
    /// Digest to extend by instead of a text's, 96 hexadecimal digits
    #[arg(long, value_name = "HEX", conflicts_with_all = ["message", "events"])]
    pub digest: Option<String>,
    /// Register: 2 or 3
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub register: u8,
    /// File to which the text is appended, so that others can replay the register
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Which machine is asked
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
