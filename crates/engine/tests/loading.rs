//! Model directories that are not what they should be: each gets a message that names the file and what was expected.

mod common;

use cocoon_engine::{EmbeddedEngine, EngineError, EngineOptions};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A copy of the shipped model to spoil.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ] {
        fs::copy(common::model_dir().join(name), dir.path().join(name)).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<EmbeddedEngine, EngineError> {
    EmbeddedEngine::load(dir, EngineOptions::default())
}

fn refused(dir: &Path, words: &[&str]) {
    let error = load(dir)
        .err()
        .expect("the model must be refused")
        .to_string();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

fn edit(dir: &TempDir, file: &str, from: &str, to: &str) {
    let path = dir.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {file}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn missing_files_are_named() {
    refused(
        Path::new("/nowhere/model"),
        &["/nowhere/model", "expected a model directory"],
    );
    for (file, what) in [
        ("config.json", "configuration"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "tokenizer"),
    ] {
        let dir = copy();
        fs::remove_file(dir.path().join(file)).unwrap();
        refused(dir.path(), &[file, "missing", what]);
    }
}

#[test]
fn optional_files_are_optional() {
    let dir = copy();
    fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    fs::remove_file(dir.path().join("tokenizer_config.json")).unwrap();
    load(dir.path()).unwrap();
}

#[test]
fn corrupted_weights_are_refused() {
    let good = fs::read(common::model_dir().join("model.safetensors")).unwrap();
    let write = |bytes: &[u8]| {
        let dir = copy();
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        dir
    };
    refused(
        write(b"").path(),
        &["model.safetensors", "expected safetensors"],
    );
    refused(
        write(b"not a model").path(),
        &["model.safetensors", "expected safetensors"],
    );
    refused(
        write(&good[..good.len() - 7]).path(),
        &["model.safetensors", "expected safetensors"],
    );
    let mut spoiled = good.clone();
    spoiled[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(
        write(&spoiled).path(),
        &["model.safetensors", "expected safetensors"],
    );
    let mut spoiled = good;
    spoiled[9] = b'}';
    refused(
        write(&spoiled).path(),
        &["model.safetensors", "expected safetensors"],
    );
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    let dir = copy();
    edit(
        &dir,
        "config.json",
        "\"intermediate_size\": 512",
        "\"intermediate_size\": 500",
    );
    refused(
        dir.path(),
        &[
            "model.layers.0.mlp.gate_proj.weight",
            "[500, 192]",
            "[512, 192]",
        ],
    );
    let dir = copy();
    edit(
        &dir,
        "config.json",
        "\"num_hidden_layers\": 4",
        "\"num_hidden_layers\": 5",
    );
    refused(dir.path(), &["model.layers.4.", "nothing"]);
    let dir = copy();
    edit(
        &dir,
        "config.json",
        "\"model_type\": \"llama\"",
        "\"model_type\": \"gpt2\"",
    );
    refused(dir.path(), &["config.json", "gpt2", "expected llama"]);
    let dir = copy();
    fs::write(dir.path().join("config.json"), "{").unwrap();
    refused(dir.path(), &["config.json", "expected JSON"]);
}

#[test]
fn wrong_tokenizers_templates_and_preferences_are_refused() {
    let dir = copy();
    fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
    refused(dir.path(), &["tokenizer.json", "expected"]);
    let dir = copy();
    edit(&dir, "tokenizer.json", "\"!\": 3,", "\"!\": 99999,");
    refused(
        dir.path(),
        &[
            "tokenizer.json",
            "token id 99999",
            "below the model's vocab_size 1536",
        ],
    );
    let dir = copy();
    fs::write(dir.path().join("chat_template.jinja"), "{% for %}").unwrap();
    refused(dir.path(), &["chat_template.jinja", "does not compile"]);
    let dir = copy();
    edit(&dir, "generation_config.json", "0.7", "\"warm\"");
    refused(
        dir.path(),
        &["generation_config.json", "temperature", "expected a number"],
    );
}

#[test]
fn an_index_names_files_of_its_own_directory_only() {
    let dir = copy();
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(
        &index,
        r#"{"weight_map": {"a": "../../etc/passwd.safetensors"}}"#,
    )
    .unwrap();
    refused(dir.path(), &["index.json", "not the name"]);
    fs::write(&index, r#"{"weights": {}}"#).unwrap();
    refused(dir.path(), &["index.json", "weight_map"]);
    fs::write(
        &index,
        r#"{"weight_map": {"a": "model-00001-of-00002.safetensors"}}"#,
    )
    .unwrap();
    refused(dir.path(), &["model-00001-of-00002.safetensors", "missing"]);
    fs::write(&index, r#"{"weight_map": {"a": "model.safetensors"}}"#).unwrap();
    load(dir.path()).unwrap();
}
