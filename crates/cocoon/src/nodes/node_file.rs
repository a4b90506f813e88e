//! `node.json`: where a running node can be reached, for `cocoon status`, `account` and `doctor`. There only while it
//! runs.

use serde::{Deserialize, Serialize};

use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::fs::{PUBLIC_MODE, read_small, write_atomic};

/// A running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// client, proxy or worker.
    pub role: String,
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its operator's pages; `None` if it serves none.
    pub url: Option<String>,
    /// Where its root configuration and contracts are, as `--chain` takes it.
    pub chain: String,
    /// The root contract, raw.
    pub root: String,
}

impl NodeFile {
    /// Writes the file, whole or not at all.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| CliError::new(format!("cannot write node.json: {e}")))?;
        write_atomic(&layout.node_file(), &text, PUBLIC_MODE)
    }

    /// Removes it, at the end or before a start.
    pub fn remove(layout: &Layout) {
        let _ = std::fs::remove_file(layout.node_file());
    }

    /// The node that runs in a data directory, if one does and is ready.
    pub fn find(layout: &Layout) -> Result<Option<Self>> {
        // A file left behind by kill -9 speaks of a node that is not there any more.
        if layout.holder().is_none() {
            return Ok(None);
        }
        let path = layout.node_file();
        let Some(bytes) = read_small(&path)? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            CliError::new(format!("{} cannot be understood", path.display()))
                .expected("the node.json of this version of cocoon")
                .found(e.to_string())
                .hint("use the same version as the running node")
        })
    }
}
