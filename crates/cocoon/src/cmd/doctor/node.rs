//! `cocoon doctor --role ROLE`: would this node work, and what is in its way.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::network::{backend, chain, peers, root_contract, wallet};
use super::{Finding, Verdict, flat};
use crate::cli::{DoctorArgs, Global, Role};
use crate::datadir::Layout;
use crate::error::Result;
use crate::nodes::base::ConfigFile;
use crate::nodes::config::{self, Shared};

/// Free disk below which the books of a busy node may not find room.
const LEAST_DISK_KIB: u64 = 512 * 1024;
/// Open files that a busy node needs: two sockets for a link or a call.
const LEAST_FILES: u64 = 4096;

/// What the file of any role says, as far as it is checked here.
pub(super) struct Node {
    pub(super) role: &'static str,
    pub(super) shared: Shared,
    pub(super) router: Option<String>,
    pub(super) direct: bool,
    pub(super) listen: Ipv4Addr,
    pub(super) ports: Vec<(u16, &'static str)>,
    pub(super) model: Option<String>,
    pub(super) forward_to: Option<String>,
    pub(super) image_hash: Option<[u8; 32]>,
    pub(super) unread: Vec<String>,
    pub(super) data_dir: Option<PathBuf>,
}

/// Collects findings.
pub(super) struct Report(pub(super) Vec<Finding>);

impl Report {
    pub(super) fn fine(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Verdict::Fine, text);
    }

    pub(super) fn warn(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Verdict::Warning, text);
    }

    pub(super) fn problem(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(check, Verdict::Problem, text);
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, text: impl Into<String>) {
        self.0.push(Finding {
            check,
            verdict,
            text: text.into(),
        });
    }
}

/// All checks of a node.
pub async fn check(args: &DoctorArgs, role: Role, global: &Global) -> Vec<Finding> {
    let mut report = Report(Vec::new());
    let node = match read(role, global) {
        Ok((node, path)) => {
            let text = format!("{} was read", path.display());
            if node.unread.is_empty() {
                report.fine("configuration", text);
            } else {
                let names = node.unread.join(", ");
                report.warn(
                    "configuration",
                    format!(
                        "{text}; these members mean nothing here: {names}; correct or remove them"
                    ),
                );
            }
            permissions(&mut report, &node, &path);
            node
        }
        Err(e) => {
            report.problem("configuration", flat(&e));
            return report.0;
        }
    };
    let running = directory(&mut report, &node, global);
    ports(&mut report, &node, running);
    machine(&mut report, &node, global);
    if let Some((root, chain)) = chain(&mut report, args, &node).await {
        root_contract(&mut report, &node, &root);
        if let Some(chain) = chain {
            wallet(&mut report, &node, global, &root, chain.as_ref()).await;
        }
        peers(&mut report, &node, &root).await;
    }
    backend(&mut report, &node).await;
    report.0
}

fn read(role: Role, global: &Global) -> Result<(Node, PathBuf)> {
    let name = role.name();
    let file = ConfigFile::read(global, name)?;
    let path = file.path().to_owned();
    let wrong = |e| file.wrong(&e);
    let node = match role {
        Role::Client => {
            let (c, unread) = config::client(file.text()).map_err(wrong)?;
            Node {
                role: name,
                router: c.router,
                direct: false,
                listen: Ipv4Addr::LOCALHOST,
                ports: vec![(c.shared.http_port, "http_port")],
                shared: c.shared,
                model: None,
                forward_to: None,
                image_hash: None,
                unread,
                data_dir: None,
            }
        }
        Role::Proxy => {
            let (p, unread) = config::proxy(file.text()).map_err(wrong)?;
            Node {
                role: name,
                router: None,
                direct: p.direct,
                listen: p.listen.unwrap_or(Ipv4Addr::LOCALHOST),
                ports: vec![
                    (p.shared.http_port, "http_port"),
                    (p.workers_port, "workers_rpc_port"),
                    (p.clients_port, "client_rpc_port"),
                ],
                shared: p.shared,
                model: None,
                forward_to: None,
                image_hash: p.image_hash,
                unread,
                data_dir: p.db_path.map(Into::into),
            }
        }
        Role::Worker => {
            let (w, unread) = config::worker(file.text()).map_err(wrong)?;
            Node {
                role: name,
                router: w.router,
                direct: false,
                listen: Ipv4Addr::LOCALHOST,
                ports: vec![(w.shared.http_port, "http_port")],
                shared: w.shared,
                model: w.model_name,
                forward_to: w.forward_to,
                image_hash: w.image_hash,
                unread,
                data_dir: None,
            }
        }
    };
    Ok((node, path))
}

/// A file with keys in it is nobody else's.
fn permissions(report: &mut Report, node: &Node, path: &Path) {
    let secret = node.shared.wallet_key.is_some() || node.shared.http_token.is_some();
    let mode = std::fs::metadata(path).map_or(0o600, |meta| meta.permissions().mode());
    if secret && mode & 0o077 != 0 {
        report.warn(
            "permissions",
            format!(
                "{} holds secrets and others can read it: chmod 600 {}",
                path.display(),
                path.display()
            ),
        );
    } else {
        report.fine(
            "permissions",
            "the configuration is closed, or holds no secret",
        );
    }
}

pub(super) fn layout(node: &Node, global: &Global) -> Result<Layout> {
    let asked = global.data_dir.clone().or(node.data_dir.clone());
    Layout::locate_or(asked.as_deref(), &format!("cocoon-{}", node.role))
}

/// The data directory; true if the node runs there.
fn directory(report: &mut Report, node: &Node, global: &Global) -> bool {
    let layout = match layout(node, global) {
        Ok(layout) => layout,
        Err(e) => {
            report.problem("data directory", flat(&e));
            return false;
        }
    };
    let path = layout.path().display().to_string();
    match layout.read_data_file() {
        Err(e) => report.problem("data directory", flat(&e)),
        Ok(None) => report.fine(
            "data directory",
            format!("{path} will be made on first start"),
        ),
        Ok(Some(data)) if data.role.as_deref() != Some(node.role) => report.problem(
            "data directory",
            format!(
                "{path} belongs to {}; choose another one with --data-dir",
                data.role.as_deref().unwrap_or("a network of 'cocoon up'")
            ),
        ),
        Ok(Some(data)) => report.fine(
            "data directory",
            format!("{path}, made by cocoon {}", data.created_by),
        ),
    }
    let open: Vec<String> = std::fs::read_dir(layout.keys())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
        })
        .map(|entry| entry.path().display().to_string())
        .collect();
    if open.is_empty() {
        report.fine("keys", "closed to others, or none yet");
    } else {
        report.problem(
            "keys",
            format!("others can read {}: chmod 600 them", open.join(", ")),
        );
    }
    match layout.holder() {
        Some(pid) => {
            report.fine(
                "process",
                format!("the node runs as process {pid}; 'cocoon status' shows how it is"),
            );
            true
        }
        None => false,
    }
}

fn ports(report: &mut Report, node: &Node, running: bool) {
    for (port, name) in &node.ports {
        if *port == 0 {
            report.warn(
                "port",
                format!("'{name}' is 0 or missing: nothing is served there"),
            );
            continue;
        }
        let ip = if *name == "http_port" {
            Ipv4Addr::LOCALHOST
        } else {
            node.listen
        };
        match TcpListener::bind(SocketAddrV4::new(ip, *port)) {
            Ok(_) => report.fine("port", format!("{port} ({name}) is free")),
            Err(_) if running => {
                report.fine("port", format!("{port} ({name}) is in use, by the running node it seems"));
            }
            Err(e) => report.problem(
                "port",
                format!("{port} ({name}): {e}; see who has it: ss -ltnp 'sport = :{port}', or choose another '{name}'"),
            ),
        }
    }
}

fn machine(report: &mut Report, node: &Node, global: &Global) {
    let dir = layout(node, global).map_or_else(|_| "/".into(), |l| l.path().to_owned());
    let existing = dir
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    match free_kib(existing) {
        Some(free) if free < LEAST_DISK_KIB => report.problem(
            "disk",
            format!(
                "{} MiB free under {}; a node that cannot save stops: make room",
                free >> 10,
                existing.display()
            ),
        ),
        Some(free) => report.fine(
            "disk",
            format!("{} MiB free under {}", free >> 10, existing.display()),
        ),
        None => report.warn("disk", "its free space cannot be told here"),
    }
    match open_files() {
        Some(n) if n < LEAST_FILES => report.warn(
            "open files",
            format!("at most {n}; many links and callers need more: ulimit -n {LEAST_FILES}, or LimitNOFILE= of the service"),
        ),
        Some(n) => report.fine("open files", format!("at most {n}")),
        None => {}
    }
    if !node.shared.is_test {
        let tee = Path::new("/dev/tdx_guest").exists();
        match (&node.shared.collateral, node.direct || node.router.is_none() && node.role != "proxy") {
            (None, true) => report.problem(
                "attestation",
                "outside test mode every peer is refused without collateral: name its directory with 'collateral', or go through a router",
            ),
            _ if tee => report.fine("attestation", "this is a TDX guest"),
            _ => report.warn("attestation", "this is no TDX guest: peers that demand evidence refuse it, unless a router in one stands before it"),
        }
    } else {
        report.warn(
            "attestation",
            "test mode: evidence may be fake, nothing is confidential",
        );
    }
}

/// Kilobytes that are free where `path` is, as `df` tells.
fn free_kib(path: &Path) -> Option<u64> {
    let out = std::process::Command::new("df")
        .arg("-Pk")
        .arg(path)
        .stderr(std::process::Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

fn open_files() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
