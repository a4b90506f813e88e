//! `cocoon.toml`: the flags of `cocoon up` in a file.

use std::path::Path;

use crate::cli::{Global, UpArgs};
use crate::datadir::Layout;
use crate::error::{CliError, Result};
use crate::fs::read_small;

/// The flags with the file's values where no flag was given.
pub fn merged(flags: UpArgs, global: &Global, layout: &Layout) -> Result<UpArgs> {
    let file = match &global.config {
        Some(path) => Some(load(path)?.ok_or_else(|| {
            CliError::usage(format!("there is no configuration file {}", path.display()))
                .expected("a TOML file with settings of 'cocoon up'")
                .hint("check the path after --config")
        })?),
        None => load(&layout.config())?,
    };
    let Some(mut file) = file else {
        return Ok(flags);
    };
    // A flag for one kind of backend sets the file's other kind aside.
    if flags.model.is_some() {
        file.upstream = None;
    }
    if flags.upstream.is_some() {
        file.model = None;
    }
    Ok(UpArgs {
        client_port: flags.client_port.or(file.client_port),
        proxy_port: flags.proxy_port.or(file.proxy_port),
        worker_rpc_port: flags.worker_rpc_port.or(file.worker_rpc_port),
        client_rpc_port: flags.client_rpc_port.or(file.client_rpc_port),
        worker_port: flags.worker_port.or(file.worker_port),
        chain_port: flags.chain_port.or(file.chain_port),
        model: flags.model.or(file.model),
        upstream: flags.upstream.or(file.upstream),
        model_name: flags.model_name.or(file.model_name),
        price: flags.price.or(file.price),
        worker_fee: flags.worker_fee.or(file.worker_fee),
        coefficient: flags.coefficient.or(file.coefficient),
        worker_owner: flags.worker_owner.or(file.worker_owner),
        owner_mnemonic_file: flags.owner_mnemonic_file.or(file.owner_mnemonic_file),
        pow_difficulty: flags.pow_difficulty.or(file.pow_difficulty),
        settle: flags.settle.or(file.settle),
        proxy_stake: flags.proxy_stake.or(file.proxy_stake),
        accept_exit_risk: flags.accept_exit_risk || file.accept_exit_risk,
        otlp: flags.otlp.or(file.otlp),
        json: flags.json,
        quiet: flags.quiet,
    })
}

/// Reads a file; `None` if there is none. Relative paths in it start where the file is.
pub fn load(path: &Path) -> Result<Option<UpArgs>> {
    let Some(bytes) = read_small(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| {
        CliError::usage(format!("{} is not text", path.display())).expected("a TOML file in UTF-8")
    })?;
    let mut args: UpArgs = toml::from_str(&text).map_err(|e| explain(path, &text, &e))?;
    let base = path.parent().unwrap_or(Path::new("."));
    for relative in [&mut args.model, &mut args.owner_mnemonic_file] {
        if let Some(path) = relative.take() {
            *relative = Some(base.join(path));
        }
    }
    if args.model.is_some() && args.upstream.is_some() {
        return Err(CliError::usage(format!(
            "{} names both a model and an upstream",
            path.display()
        ))
        .expected("one of the two keys")
        .hint("remove 'model' or 'upstream'"));
    }
    Ok(Some(args))
}

fn explain(path: &Path, text: &str, error: &toml::de::Error) -> CliError {
    let place = error.span().map_or_else(String::new, |span| {
        let before = text.get(..span.start).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        format!(", line {line}")
    });
    // "unknown field `x`, expected one of `a`, `b`" comes apart into what was found and what was expected.
    let message = error.message().trim().replace('\n', "; ");
    let (found, expected) = match message.split_once(", expected ") {
        Some((found, expected)) => (found.to_owned(), Some(expected.to_owned())),
        None => (message, None),
    };
    let failure = CliError::usage(format!(
        "the configuration {}{place} is wrong; nothing was changed",
        path.display()
    ))
    .expected(expected.unwrap_or_else(|| "TOML, such as: client_port = 10000".to_owned()))
    .found(found);
    failure.hint("the keys are the flags of 'cocoon up --help' with '_' instead of '-'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn parse(text: &str) -> Result<Option<UpArgs>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cocoon.toml");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn keys_are_the_flags() {
        let args = parse("client_port = 1\nsettle = \"reference\"\nprice = 5\n")
            .unwrap()
            .unwrap();
        assert_eq!(args.client_port, Some(1));
        assert_eq!(args.settle, Some(crate::cli::Settle::Reference));
        assert_eq!(args.price, Some(5));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_known_ones() {
        let error = parse("client_port = 1\n\nclient_prot = 2\n")
            .unwrap_err()
            .to_string();
        for part in ["line 3", "client_prot", "client_port", "cocoon.toml"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_wrong_type_is_named() {
        let error = parse("client_port = \"ten\"\n").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("u16"), "{error}");
        assert!(parse("client_port = 70000\n").is_err());
        assert!(parse("model = \"a\"\nupstream = \"b\"\n").is_err());
    }

    #[test]
    fn paths_are_relative_to_the_file_and_flags_win() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cocoon.toml"), "model = \"m\"\nprice = 5\n").unwrap();
        let layout = Layout::locate(Some(dir.path())).unwrap();
        let global = Global {
            data_dir: None,
            config: None,
            log: None,
            log_format: Default::default(),
        };
        let args = merged(
            UpArgs {
                price: Some(7),
                ..UpArgs::default()
            },
            &global,
            &layout,
        )
        .unwrap();
        assert_eq!(args.model, Some(dir.path().join("m")));
        assert_eq!(args.price, Some(7));
        let flags = UpArgs {
            upstream: Some("http://x".into()),
            ..UpArgs::default()
        };
        assert_eq!(merged(flags, &global, &layout).unwrap().model, None);
        let global = Global {
            config: Some(PathBuf::from("/nowhere.toml")),
            ..global
        };
        assert!(merged(UpArgs::default(), &global, &layout).is_err());
    }
}
