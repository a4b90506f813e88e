//! The kernel's side of a confidential guest in memory: configfs-tsm, measurement registers, event log, processor flags.
//!
//! It keeps the rules that a guest can trip over: `generation` counts writes, a refused `inblob` gives no error, one
//! quote at a time is made and everybody else hears "busy", calls are interrupted. Faults are asked for one by one.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha384};

use crate::{SnpFields, SoftSnp, SoftTdx, TdFields};

const REPORTS: &str = "sys/kernel/config/tsm/report";
const REGISTERS: &str = "sys/devices/virtual/misc/tdx_guest/measurements";
const ENXIO: i32 = 6;
const EINVAL: i32 = 22;

/// Something that goes wrong once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next reading of `outblob` fails with this error number.
    Errno(i32),
    /// Somebody else writes into the request after its `inblob` was written.
    OtherWriter,
    /// Somebody else writes into the request, and takes his answer, between the reading of `outblob` and the look after it.
    LateWriter,
    /// The provider refuses the next `inblob`, of which configfs says nothing.
    Refused,
    /// The next answer is for other report data.
    WrongData,
    /// The next extension of a register does nothing.
    LostExtension,
}

/// What signs.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a test has a handful of them")]
pub enum Machine {
    /// A TDX guest with these fields; report data and run-time registers are the kernel's.
    Tdx(Arc<SoftTdx>, TdFields),
    /// An SEV-SNP guest with these fields, and the host's table of certificates.
    Snp(Arc<SoftSnp>, SnpFields, Vec<u8>),
    /// A kernel without any.
    None,
}

/// The files of a kernel. Paths are relative to the root directory.
pub struct SoftKernel {
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Machine,
    faults: VecDeque<Fault>,
    entries: BTreeMap<String, Entry>,
    registers: [[u8; 48]; 4],
    files: BTreeMap<String, Vec<u8>>,
    /// Names of all requests ever made.
    made: Vec<String>,
    /// How often `outblob` was read.
    asked: usize,
}

#[derive(Default)]
struct Entry {
    generation: u64,
    data: Option<Vec<u8>>,
    late: bool,
    level: Option<Vec<u8>>,
}

impl SoftKernel {
    /// The kernel of a machine.
    #[must_use]
    pub fn new(machine: Machine) -> Self {
        let flags = match machine {
            Machine::Tdx(..) => "fpu hypervisor tdx_guest",
            Machine::Snp(..) => "fpu hypervisor sev_snp",
            Machine::None => "fpu",
        };
        let registers = match &machine {
            Machine::Tdx(_, fields) => [4, 5, 6, 7].map(|at| fields.registers[at]),
            _ => [[0; 48]; 4],
        };
        let files = [
            (
                "proc/cpuinfo",
                format!("processor\t: 0\nflags\t\t: {flags}\n"),
            ),
            ("proc/sys/kernel/osrelease", "6.16.3-soft\n".to_owned()),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes()));
        SoftKernel {
            inner: Mutex::new(Inner {
                machine,
                faults: VecDeque::new(),
                entries: BTreeMap::new(),
                registers,
                files: files.into_iter().collect(),
                made: Vec::new(),
                asked: 0,
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets things go wrong, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner().faults.extend(faults);
    }

    /// Puts a file there.
    pub fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.inner().files.insert(path.to_owned(), content.into());
    }

    /// Requests that are there now, and all names that were ever made.
    #[must_use]
    pub fn requests(&self) -> (usize, Vec<String>) {
        let inner = self.inner();
        (inner.entries.len(), inner.made.clone())
    }

    /// How often evidence was asked for.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.inner().asked
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        if let Some(content) = inner.files.get(path) {
            return Ok(content.clone());
        }
        if let Some(name) = path.strip_prefix(REGISTERS) {
            return inner.register(name.trim_start_matches('/'));
        }
        let (entry, attribute) = inner.attribute(path)?;
        inner.read(&entry, &attribute)
    }

    /// Hands bytes to a file.
    pub fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        if let Some(name) = path.strip_prefix(REGISTERS) {
            return inner.extend(name.trim_start_matches('/'), bytes);
        }
        let (name, attribute) = inner.attribute(path)?;
        inner.write(&name, &attribute, bytes)
    }

    /// Makes a request.
    pub fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut inner = self.inner();
        let name = path
            .strip_prefix(REPORTS)
            .and_then(|name| name.strip_prefix('/'))
            .filter(|name| !name.contains('/'))
            .ok_or(io::ErrorKind::NotFound)?;
        if matches!(inner.machine, Machine::None) {
            return Err(io::Error::from_raw_os_error(ENXIO));
        }
        if inner.entries.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        inner.entries.insert(name.to_owned(), Entry::default());
        inner.made.push(name.to_owned());
        Ok(())
    }

    /// Ends a request.
    pub fn remove_directory(&self, path: &str) -> io::Result<()> {
        let name = path.rsplit('/').next().unwrap_or_default();
        match self.inner().entries.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether something is there.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        let inner = self.inner();
        let directory = format!("{path}/");
        let tdx = matches!(inner.machine, Machine::Tdx(..));
        let device = REGISTERS.trim_end_matches("/measurements");
        inner
            .files
            .keys()
            .any(|f| f == path || f.starts_with(&directory))
            || REPORTS.starts_with(path)
            || (tdx && (path == REGISTERS || path == device))
            || inner.attribute(path).is_ok_and(|(entry, name)| {
                let snp = matches!(inner.machine, Machine::Snp(..));
                inner.entries.contains_key(&entry) && (name != "auxblob" || snp)
            })
    }
}

impl Inner {
    fn next(&mut self, wanted: impl Fn(Fault) -> bool) -> Option<Fault> {
        let fault = *self.faults.front()?;
        if !wanted(fault) {
            return None;
        }
        self.faults.pop_front()
    }

    fn attribute(&self, path: &str) -> io::Result<(String, String)> {
        let rest = path.strip_prefix(REPORTS).and_then(|p| p.strip_prefix('/'));
        let (entry, attribute) = rest
            .and_then(|rest| rest.split_once('/'))
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((entry.to_owned(), attribute.to_owned()))
    }

    fn entry(&mut self, name: &str) -> io::Result<&mut Entry> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        self.entries.get_mut(name).ok_or_else(missing)
    }

    fn read(&mut self, name: &str, attribute: &str) -> io::Result<Vec<u8>> {
        let provider = match self.machine {
            Machine::Tdx(..) => "tdx_guest",
            Machine::Snp(..) => "sev_guest",
            Machine::None => "",
        };
        let entry = self.entry(name)?;
        match attribute {
            "provider" => Ok(format!("{provider}\n").into_bytes()),
            "generation" => {
                if std::mem::take(&mut entry.late) {
                    entry.generation += 1;
                }
                Ok(format!("{}\n", entry.generation).into_bytes())
            }
            "outblob" => self.answer(name),
            "auxblob" => match &self.machine {
                Machine::Snp(_, _, table) => Ok(table.clone()),
                _ => Err(io::ErrorKind::NotFound.into()),
            },
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn write(&mut self, name: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        let snp = matches!(self.machine, Machine::Snp(..));
        let refused = attribute == "inblob" && self.next(|f| f == Fault::Refused).is_some();
        let other = attribute == "inblob" && self.next(|f| f == Fault::OtherWriter).is_some();
        let entry = self.entry(name)?;
        match attribute {
            "inblob" if refused => {}
            "inblob" => {
                entry.data = Some(bytes.to_vec());
                entry.generation += 1;
                if other {
                    entry.data = Some(vec![0xee; 64]);
                    entry.generation += 1;
                }
            }
            "privlevel" if snp => {
                entry.level = Some(bytes.to_vec());
                entry.generation += 1;
            }
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }

    fn answer(&mut self, name: &str) -> io::Result<Vec<u8>> {
        self.asked += 1;
        if let Some(Fault::Errno(number)) = self.next(|f| matches!(f, Fault::Errno(_))) {
            return Err(io::Error::from_raw_os_error(number));
        }
        let wrong = self.next(|f| f == Fault::WrongData).is_some();
        let late = self.next(|f| f == Fault::LateWriter).is_some();
        let entry = self.entry(name)?;
        entry.late = late;
        let data = entry.data.clone().filter(|data| data.len() <= 64);
        let level = entry.level.clone();
        let data = data.ok_or_else(|| io::Error::from_raw_os_error(EINVAL))?;
        let mut report_data = [0; 64];
        report_data[..data.len()].copy_from_slice(&data);
        if wrong {
            report_data[0] ^= 1;
        }
        match &self.machine {
            Machine::Tdx(platform, fields) => {
                let mut fields = TdFields {
                    report_data,
                    ..fields.clone()
                };
                fields.registers[4..].copy_from_slice(&self.registers);
                Ok(platform.quote(&fields))
            }
            Machine::Snp(platform, fields, _) => {
                let level = level.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
                Ok(platform.report(&SnpFields {
                    report_data,
                    vmpl: level.unwrap_or(fields.vmpl),
                    ..fields.clone()
                }))
            }
            Machine::None => Err(io::Error::from_raw_os_error(ENXIO)),
        }
    }

    fn register(&self, name: &str) -> io::Result<Vec<u8>> {
        let Machine::Tdx(_, fields) = &self.machine else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let value = match name {
            "mrtd:sha384" => fields.registers[0],
            "mrconfigid" => fields.registers[1],
            "mrowner" => fields.registers[2],
            "mrownerconfig" => fields.registers[3],
            _ => self.registers[run_time(name)?],
        };
        Ok(value.to_vec())
    }

    fn extend(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let index = run_time(name)?;
        if bytes.len() != 48 {
            return Err(io::Error::from_raw_os_error(EINVAL));
        }
        if self.next(|f| f == Fault::LostExtension).is_none() {
            let hash = Sha384::new()
                .chain_update(self.registers[index])
                .chain_update(bytes);
            self.registers[index] = hash.finalize().into();
        }
        Ok(())
    }
}

fn run_time(name: &str) -> io::Result<usize> {
    let names = [0, 1, 2, 3].map(|index| format!("rtmr{index}:sha384"));
    let place = names.iter().position(|known| known == name);
    place.ok_or_else(|| io::ErrorKind::NotFound.into())
}
