//! Files written whole or not at all, and files that only their owner may read.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::{CliError, Result};

/// Mode of files with secrets.
pub const SECRET_MODE: u32 = 0o600;
/// Mode of other files.
pub const PUBLIC_MODE: u32 = 0o644;
/// Small files only: keys, mnemonics, JSON of ours. More is somebody else's file.
pub const MAX_SMALL_FILE: u64 = 1 << 20;

/// An error about a path, with the system's words for it.
pub fn io_error(what: &str, path: &Path, error: &std::io::Error) -> CliError {
    let failure =
        CliError::new(format!("cannot {what} {}", path.display())).found(error.to_string());
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            failure.hint("check who owns it (ls -ld), or choose another place")
        }
        std::io::ErrorKind::NotFound => failure.hint("check the spelling of the path"),
        std::io::ErrorKind::StorageFull => failure.hint("free some disk space and try again"),
        _ => failure,
    }
}

/// Writes a file so that a reader, or a crash at any moment, sees the old content or the new, never half of it.
pub fn write_atomic(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        // A leftover of a crash may have another mode; a fresh file gets the one asked for.
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        if let Some(parent) = path.parent()
            && let Ok(directory) = File::open(parent)
        {
            // Makes the new name durable where the file system supports it.
            let _ = directory.sync_all();
        }
        Ok(())
    };
    write().map_err(|e| io_error("write", path, &e))
}

/// Writes a new file and refuses to touch an existing one.
pub fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|e| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            CliError::new(format!("will not write over {}", path.display()))
                .expected("a file name that is not taken")
                .hint("choose another name, or move the existing file away first")
        } else {
            io_error("write", path, &e)
        }
    })
}

/// Reads a small file; `None` if there is none.
pub fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("read", path, &e)),
    };
    if size > MAX_SMALL_FILE {
        return Err(CliError::new(format!("{} is too large", path.display()))
            .expected(format!("at most {MAX_SMALL_FILE} bytes"))
            .found(format!("{size} bytes")));
    }
    std::fs::read(path)
        .map(Some)
        .map_err(|e| io_error("read", path, &e))
}
