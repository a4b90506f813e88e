//! The hash of a configuration directory as git computes it for trees in SHA-256 object format (spec 6.3), and the
//! run-time register that a guest ends with after it measured that hash (spec 6.4).

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256, Sha384};

use crate::measurements::Register;

/// Largest file of a configuration (the guest's own limit).
pub const MAX_FILE_LEN: u64 = 10 << 20;
/// Most files; real configurations have a dozen.
pub const MAX_FILES: usize = 10_000;
/// Deepest directory.
const MAX_DEPTH: usize = 32;
/// What the host may change at will; it is not measured.
const RUNTIME: &str = "runtime";
/// Files at the top that record the hash itself.
const RECORDS: [&str; 2] = ["spec.tree", "spec.meta"];

/// Why a directory has no hash.
#[derive(Debug, thiserror::Error)]
pub enum SpecTreeError {
    /// The system refused.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that a configuration cannot have.
    #[error("{path}: {reason}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Too much.
    #[error(
        "the configuration has more than {MAX_FILES} files or is deeper than {MAX_DEPTH} directories"
    )]
    TooMuch,
    /// `spec.tree` records something else.
    #[error(
        "spec.tree says {recorded}, the directory has {found}: something was changed after it was recorded"
    )]
    Recorded {
        /// In the file.
        recorded: String,
        /// Computed.
        found: SpecTree,
    },
}

/// The hash of a configuration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SpecTree(pub [u8; 32]);

impl fmt::Display for SpecTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SpecTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A directory or a file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// With the hash of its contents.
    File {
        /// Whether it may be run.
        executable: bool,
        /// Hash of the blob.
        hash: [u8; 32],
    },
    /// By name.
    Directory(BTreeMap<String, Node>),
}

impl Node {
    /// A file with these contents.
    #[must_use]
    pub fn file(executable: bool, contents: &[u8]) -> Self {
        Node::File {
            executable,
            hash: object("blob", contents),
        }
    }

    /// An empty directory.
    #[must_use]
    pub fn directory() -> Self {
        Node::Directory(BTreeMap::new())
    }

    /// The hash of this node; git has no empty directories but the top one.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let Node::Directory(children) = self else {
            let Node::File { hash, .. } = self else {
                return [0; 32];
            };
            return *hash;
        };
        let mut entries: Vec<(Vec<u8>, &str, &Node)> = children
            .iter()
            .filter(|(_, node)| !matches!(node, Node::Directory(inner) if inner.is_empty()))
            .map(|(name, node)| {
                let mut order = name.clone().into_bytes();
                if matches!(node, Node::Directory(_)) {
                    order.push(b'/');
                }
                (order, name.as_str(), node)
            })
            .collect();
        entries.sort();
        let mut body = Vec::new();
        for (_, name, node) in entries {
            let mode = match node {
                Node::File {
                    executable: false, ..
                } => "100644",
                Node::File {
                    executable: true, ..
                } => "100755",
                Node::Directory(_) => "40000",
            };
            body.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            body.extend_from_slice(&node.hash());
        }
        object("tree", &body)
    }
}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Node {
    /// Only to sort entries by name: two nodes of the same name do not occur.
    fn cmp(&self, _other: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

fn object(kind: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(format!("{kind} {}\0", body.len()));
    hash.update(body);
    hash.finalize().into()
}

/// The hash of a directory without its `runtime`. A `spec.tree` in it must agree.
///
/// Directories with rules for git (`.gitignore`, `.gitattributes`) are refused instead of interpreted: the measured
/// selection would depend on a second implementation of git's rules.
pub fn measure(directory: &Path) -> Result<SpecTree, SpecTreeError> {
    let mut files = 0;
    let found = SpecTree(read(directory, 0, &mut files)?.hash());
    let record = directory.join(RECORDS[0]);
    match std::fs::read_to_string(&record) {
        Ok(text) if text.trim() == found.to_string() => Ok(found),
        Ok(text) => Err(SpecTreeError::Recorded {
            recorded: text.trim().chars().take(100).collect(),
            found,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(found),
        Err(source) => Err(SpecTreeError::Io {
            path: record,
            source,
        }),
    }
}

fn read(directory: &Path, depth: usize, files: &mut usize) -> Result<Node, SpecTreeError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SpecTreeError::Io { path, source }
    };
    if depth > MAX_DEPTH {
        return Err(SpecTreeError::TooMuch);
    }
    let mut children = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(io(directory))? {
        let path = entry.map_err(io(directory))?.path();
        let refuse = |reason| SpecTreeError::File {
            path: path.clone(),
            reason,
        };
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name
            .ok_or_else(|| refuse("its name is not UTF-8"))?
            .to_owned();
        if depth == 0 && (name == RUNTIME || RECORDS.contains(&name.as_str())) {
            continue;
        }
        match name.as_str() {
            ".git" => {
                return Err(refuse(
                    "a repository inside a configuration is not measured",
                ));
            }
            ".gitignore" | ".gitattributes" => {
                return Err(refuse("rules for git change what is measured; remove them"));
            }
            _ => {}
        }
        *files += 1;
        if *files > MAX_FILES {
            return Err(SpecTreeError::TooMuch);
        }
        let meta = std::fs::symlink_metadata(&path).map_err(io(&path))?;
        let node = if meta.is_dir() {
            read(&path, depth + 1, files)?
        } else if !meta.is_file() {
            return Err(refuse("only files and directories can be measured"));
        } else if meta.len() > MAX_FILE_LEN {
            return Err(refuse("it is over the limit of 10 MiB"));
        } else {
            let contents = std::fs::read(&path).map_err(io(&path))?;
            Node::file(meta.permissions().mode() & 0o100 != 0, &contents)
        };
        children.insert(name, node);
    }
    Ok(Node::Directory(children))
}

/// Extends a run-time register with a digest: `SHA-384(register || digest)`.
#[must_use]
pub fn extend(register: &Register, digest: &Register) -> Register {
    let hash = Sha384::new().chain_update(register).chain_update(digest);
    hash.finalize().into()
}

/// Extends a run-time register with a text event.
#[must_use]
pub fn extend_text(register: &Register, message: &str) -> Register {
    extend(register, &Sha384::digest(message).into())
}

/// RTMR3 of a guest that runs this configuration, once it makes its certificate.
#[must_use]
pub fn rtmr3(tree: &SpecTree, debug: bool) -> Register {
    let mut register = extend_text(&[0; 48], &format!("cocoon:spec.tree={tree}"));
    if debug {
        register = extend_text(&register, "cocoon:cocoon_debug");
    }
    extend_text(&register, "cocoon:tdx_inited")
}
