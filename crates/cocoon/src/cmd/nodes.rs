//! Running nodes as the commands see them: by data directory or by URL, through their operator's pages.

use std::path::{Path, PathBuf};

use http::Method;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::Global;
use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::fs::read_small;
use crate::http::Http;
use crate::nodes::node_file::NodeFile;

/// Roles whose usual data directories are looked into.
pub const ROLES: [&str; 3] = ["client", "proxy", "worker"];

/// A node that can be asked.
pub struct Found {
    /// Its pages.
    pub url: String,
    /// Its data directory, if it is on this machine.
    pub dir: Option<PathBuf>,
    /// Its process, if known.
    pub pid: Option<u32>,
    http: Http,
}

impl Found {
    /// A node by its URL.
    pub fn at(url: &str, token_file: Option<&Path>) -> Result<Self> {
        Ok(Found {
            url: url.trim_end_matches('/').to_owned(),
            dir: None,
            pid: None,
            http: http(token_file)?,
        })
    }

    /// The node that runs in a data directory and serves pages.
    pub fn in_dir(layout: &Layout, token_file: Option<&Path>) -> Result<Option<Self>> {
        let Some(file) = NodeFile::find(layout)? else {
            return Ok(None);
        };
        let Some(url) = file.url else {
            return Err(CliError::new(format!(
                "the {} in {} serves no pages",
                file.role,
                layout.path().display()
            ))
            .expected("'http_port' in its configuration, or --http-port")
            .found("0"));
        };
        let usual = layout.keys().join(crate::nodes::TOKEN_FILE);
        let token_file = match token_file {
            Some(path) => Some(path.to_owned()),
            None => Some(usual).filter(|path| path.exists()),
        };
        Ok(Some(Found {
            url,
            dir: Some(layout.path().to_owned()),
            pid: Some(file.pid),
            http: http(token_file.as_deref())?,
        }))
    }

    /// The figures of `/jsonstats`.
    pub async fn stats(&self) -> Result<Value> {
        let url = format!("{}/jsonstats", self.url);
        let answer = self.http.get(&url).await?;
        match answer.status {
            200 if answer.json["role"].is_string() => Ok(answer.json),
            401 => Err(
                CliError::new(format!("{} asks for the operator's token", self.url))
                    .hint("name the file with it: --token-file FILE"),
            ),
            200 => Err(
                CliError::new(format!("{} is no node of this kind", self.url))
                    .expected("the operator's pages of a cocoon client, proxy or worker")
                    .found("an answer without a role"),
            ),
            status => {
                Err(CliError::new(format!("{url} gives no figures"))
                    .found(format!("HTTP {status}")))
            }
        }
    }

    /// Asks for an action of the operator.
    pub async fn act(&self, action: &str, parameter: Option<(&str, &str)>) -> Result<Value> {
        let query = parameter
            .map(|(name, value)| format!("?{name}={value}"))
            .unwrap_or_default();
        let url = format!("{}/request/{action}{query}", self.url);
        let answer = self.http.call(Method::POST, &url, Some(&json!({}))).await?;
        if answer.status == 200 {
            return Ok(answer.json);
        }
        let said = answer.json["error"]["message"]
            .as_str()
            .map_or_else(|| format!("HTTP {}", answer.status), str::to_owned);
        let failure = CliError::new(format!("the node did not do it ({action})")).found(said);
        Err(if answer.status == 401 {
            failure.hint("name the file with the operator's token: --token-file FILE")
        } else {
            failure
        })
    }
}

fn http(token_file: Option<&Path>) -> Result<Http> {
    let Some(path) = token_file else {
        return Ok(Http::default());
    };
    let wrong = |found: &str| {
        CliError::usage(format!("cannot use the token in {}", path.display()))
            .expected("a file with the operator's token")
            .found(found.to_owned())
    };
    let bytes = Zeroizing::new(read_small(path)?.ok_or_else(|| wrong("no such file"))?);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("something that is not text"))?;
    Http::with_token(text.trim()).ok_or_else(|| wrong("characters that no header can carry"))
}

/// Data directories that may hold a single node: the one asked for, or the usual ones.
pub fn layouts(global: &Global) -> Result<Vec<Layout>> {
    match &global.data_dir {
        Some(dir) => Ok(vec![Layout::locate(Some(dir))?]),
        None => ROLES
            .iter()
            .map(|role| Layout::locate_or(None, &format!("cocoon-{role}")))
            .collect(),
    }
}

/// Single nodes that run on this machine.
pub fn running(global: &Global, token_file: Option<&Path>) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for layout in layouts(global)? {
        found.extend(Found::in_dir(&layout, token_file)?);
    }
    Ok(found)
}
