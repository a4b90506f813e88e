//! The package of a model: a tar archive that is the same for the same files everywhere, byte for byte what GNU tar
//! makes with the reference's options (spec 6.7), and the model's name made from it.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::verity::{Verity, VerityTree};

/// Most files and directories; far more than any model has.
pub const MAX_ENTRIES: usize = 10_000;
/// Deepest directory.
const MAX_DEPTH: usize = 32;
const RECORD: usize = 512;
/// GNU tar fills the archive up to a multiple of this.
const BLOCKING: u64 = 20 * RECORD as u64;
/// Longest name and largest size that fit into a header; others need an extended one.
const MAX_NAME: usize = 100;
const MAX_SIZE: u64 = 0o77_777_777_777;
/// The download tool's own directory, which is no part of a model.
const CACHE: &[u8] = b".cache";

/// Why a directory cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
    /// Something that a model cannot contain.
    #[error(
        "{path}: only files and directories can be packed (a link has to be replaced by its file)"
    )]
    Kind {
        /// Where.
        path: PathBuf,
    },
    /// Too much.
    #[error("a model has more than {MAX_ENTRIES} files or is deeper than {MAX_DEPTH} directories")]
    TooMuch,
    /// A file changed while it was read.
    #[error("{path} changed while it was read; nothing was computed")]
    Changed {
        /// Where.
        path: PathBuf,
    },
}

struct Entry {
    /// `./` and on; directories end with a slash.
    name: Vec<u8>,
    path: PathBuf,
    mode: u32,
    size: u64,
    directory: bool,
}

/// Writes the archive of a directory.
pub fn write_tar(directory: &Path, out: &mut impl Write) -> Result<(), PackageError> {
    let mut entries = Vec::new();
    list(directory, b"./".to_vec(), 0, &mut entries)?;
    let mut written = 0;
    for entry in &entries {
        written += write_entry(entry, out)?;
    }
    // Two empty records end an archive.
    let end = written + 2 * RECORD as u64;
    let zeros = end.next_multiple_of(BLOCKING) - written;
    out.write_all(&vec![0; zeros as usize])?;
    Ok(())
}

/// The verity tree of a directory's package.
pub fn measure(directory: &Path, mut verity: Verity) -> Result<VerityTree, PackageError> {
    write_tar(directory, &mut verity)?;
    verity.pad();
    Ok(verity.finish()?)
}

/// In the order of `tar --sort=name` in the C locale: names of one directory bytewise, directories where they stand.
fn list(
    path: &Path,
    name: Vec<u8>,
    depth: usize,
    out: &mut Vec<Entry>,
) -> Result<(), PackageError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| PackageError::Io { path, source }
    };
    let meta = std::fs::symlink_metadata(path).map_err(io(path))?;
    let directory = meta.is_dir();
    if !directory && !meta.is_file() {
        return Err(PackageError::Kind {
            path: path.to_owned(),
        });
    }
    if out.len() == MAX_ENTRIES || depth > MAX_DEPTH {
        return Err(PackageError::TooMuch);
    }
    out.push(Entry {
        name: name.clone(),
        path: path.to_owned(),
        mode: for_everybody(meta.permissions().mode()),
        size: if directory { 0 } else { meta.len() },
        directory,
    });
    if !directory {
        return Ok(());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io(path))? {
        names.push(entry.map_err(io(path))?.file_name());
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for child in names {
        if depth == 0 && child.as_bytes() == CACHE {
            continue;
        }
        let path = path.join(&child);
        let mut name = [&name[..], child.as_bytes()].concat();
        if std::fs::symlink_metadata(&path)
            .map_err(io(&path))?
            .is_dir()
        {
            name.push(b'/');
        }
        list(&path, name, depth + 1, out)?;
    }
    Ok(())
}

/// Group and others get what the owner has, except writing.
fn for_everybody(mode: u32) -> u32 {
    let owner = mode & 0o700;
    let shared = (owner >> 6) & !0o2;
    (mode & 0o7000) | owner | (shared << 3) | shared
}

fn write_entry(entry: &Entry, out: &mut impl Write) -> Result<u64, PackageError> {
    let mut written = 0;
    let mut extended = Vec::new();
    if entry.name.len() > MAX_NAME || !entry.name.is_ascii() {
        extended.extend(extended_record(b"path", &entry.name));
    }
    if entry.size > MAX_SIZE {
        extended.extend(extended_record(b"size", entry.size.to_string().as_bytes()));
    }
    if !extended.is_empty() {
        let size = extended.len() as u64;
        out.write_all(&header(&extended_name(&entry.name), 0o644, size, b'x'))?;
        written += RECORD as u64 + padded(&extended, out)?;
    }
    let size = if entry.size > MAX_SIZE { 0 } else { entry.size };
    let kind = if entry.directory { b'5' } else { b'0' };
    out.write_all(&header(&entry.name, entry.mode, size, kind))?;
    written += RECORD as u64;
    if !entry.directory {
        written += copy(entry, out)?;
    }
    Ok(written)
}

fn copy(entry: &Entry, out: &mut impl Write) -> Result<u64, PackageError> {
    let io = |source| PackageError::Io {
        path: entry.path.clone(),
        source,
    };
    let changed = || PackageError::Changed {
        path: entry.path.clone(),
    };
    let mut file = std::fs::File::open(&entry.path).map_err(io)?;
    let mut left = entry.size;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let got = file.read(&mut buffer).map_err(io)?;
        if got == 0 {
            break;
        }
        left = left.checked_sub(got as u64).ok_or_else(changed)?;
        out.write_all(&buffer[..got])?;
    }
    if left != 0 {
        return Err(changed());
    }
    let whole = entry.size.next_multiple_of(RECORD as u64);
    out.write_all(&[0; RECORD][..(whole - entry.size) as usize])?;
    Ok(whole)
}

fn padded(bytes: &[u8], out: &mut impl Write) -> io::Result<u64> {
    let whole = bytes.len().next_multiple_of(RECORD);
    out.write_all(bytes)?;
    out.write_all(&[0; RECORD][..whole - bytes.len()])?;
    Ok(whole as u64)
}

/// `<length> <key>=<value>\n`, where the length counts itself.
fn extended_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// `<directory>/PaxHeaders/<name>`.
fn extended_name(name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let slash = name.iter().rposition(|b| *b == b'/').unwrap_or(0);
    let (directory, last) = name.split_at(slash);
    [directory, b"/PaxHeaders", last].concat()
}

fn header(name: &[u8], mode: u32, size: u64, kind: u8) -> [u8; RECORD] {
    let mut out = [0; RECORD];
    let short = &name[..name.len().min(MAX_NAME)];
    out[..short.len()].copy_from_slice(short);
    let mut put = |at: usize, text: &str| out[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar\0");
    put(263, "00");
    if kind != b'x' {
        // Numbers of a device, which extended headers leave empty.
        put(329, "0000000");
        put(337, "0000000");
    }
    out[156] = kind;
    let sum: u32 = out.iter().map(|byte| u32::from(*byte)).sum();
    out[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out
}
