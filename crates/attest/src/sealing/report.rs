//! The report of a trust domain (spec 9.5): what it is, said to others on the same processor.

/// Bytes of a report.
pub const REPORT_LEN: usize = 1024;
/// Type byte of a trust domain's report.
const TYPE_TDX: u8 = 0x81;

/// Why bytes are no report of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// Another length.
    #[error("a TD report has {REPORT_LEN} bytes, this has {0}")]
    Length(usize),
    /// Not a trust domain's.
    #[error("the report's type is {found:02x?}, expected 81 00 with version 0 or 1 and a zero")]
    Type {
        /// The four bytes: type, subtype, version, reserved.
        found: [u8; 4],
    },
    /// Version and service domain contradict each other.
    #[error(
        "the report has version {version}, but its service domain hash is {}zero",
        if *.service { "not " } else { "" }
    )]
    Service {
        /// Version.
        version: u8,
        /// Whether a service domain is bound.
        service: bool,
    },
}

/// A report whose form is right. Its MAC can only be checked on the processor that made it.
#[derive(Clone, PartialEq, Eq)]
pub struct TdReport(Box<[u8; REPORT_LEN]>);

impl TdReport {
    /// Reads a report.
    ///
    /// Version 1 says that a service domain is bound and carries its hash inside the part that `tee_info_hash`
    /// covers; exactly then the hash may be other than zero. So keys of version 1 depend on the service domain too,
    /// and a report cannot pass for the other version.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let bytes: &[u8; REPORT_LEN] = bytes
            .try_into()
            .map_err(|_| ReportError::Length(bytes.len()))?;
        let found = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let [kind, subtype, version, reserved] = found;
        if kind != TYPE_TDX || subtype != 0 || version > 1 || reserved != 0 {
            return Err(ReportError::Type { found });
        }
        let service = bytes[912..960].iter().any(|b| *b != 0);
        if service != (version == 1) {
            return Err(ReportError::Service { version, service });
        }
        Ok(TdReport(Box::new(*bytes)))
    }

    /// All of it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; REPORT_LEN] {
        &self.0
    }

    /// 0, or 1 if a service domain is bound.
    #[must_use]
    pub fn version(&self) -> u8 {
        self.0[2]
    }

    /// Chosen by the domain.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        self.array(128)
    }

    /// Hash over the TDX module and its version.
    #[must_use]
    pub fn tee_tcb_info_hash(&self) -> [u8; 48] {
        self.array(32)
    }

    /// Hash over attributes, XFAM and all measurements of the domain.
    #[must_use]
    pub fn tee_info_hash(&self) -> [u8; 48] {
        self.array(80)
    }

    /// Bit 0 is DEBUG.
    #[must_use]
    pub fn attributes(&self) -> u64 {
        u64::from_le_bytes(self.array(512))
    }

    /// The measurements that make the image hash.
    #[must_use]
    pub fn measurements(&self) -> crate::measurements::TdxMeasurements {
        let mut bytes = [0; crate::measurements::TDX_LEN];
        bytes[..384].copy_from_slice(&self.0[528..912]);
        bytes[384..].copy_from_slice(&self.0[128..192]);
        crate::measurements::TdxMeasurements::from_bytes(&bytes)
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.0[at..at + N]);
        out
    }
}

impl std::fmt::Debug for TdReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TdReport")
            .field("version", &self.version())
            .field("measurements", &self.measurements())
            .finish_non_exhaustive()
    }
}
