//! Names of images and models, equal to the specification's vectors, to git's rules and to GNU tar.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cocoon_attest::image::model_package::{self, PackageError, write_tar};
use cocoon_attest::image::spec_tree::{self, Node, SpecTree, rtmr3};
use cocoon_attest::image::verity::{BLOCK_LEN, Verity};
use cocoon_attest::measurements::{TdxMeasurements, model_hash};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/image_identity.json")).unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key}"))
}

fn write(path: &Path, contents: &[u8], mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_small_tree_of_the_specification() {
    let case = &vectors()["spec_tree"][0];
    let folder = tempfile::tempdir().unwrap();
    for file in case["files"].as_array().unwrap() {
        let mode = if text(file, "mode") == "100755" {
            0o755
        } else {
            0o644
        };
        write(
            &folder.path().join(text(file, "path")),
            text(file, "content").as_bytes(),
            mode,
        );
    }
    let measured = || spec_tree::measure(folder.path());
    assert_eq!(measured().unwrap().to_string(), text(case, "spec_tree"));
    // What the host may change is not measured, and neither are records and empty directories.
    write(&folder.path().join("runtime/runtime.vars"), b"A=b\n", 0o600);
    write(&folder.path().join("spec.meta"), b"x", 0o644);
    write(
        &folder.path().join("spec.tree"),
        text(case, "spec_tree").as_bytes(),
        0o644,
    );
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert_eq!(measured().unwrap().to_string(), text(case, "spec_tree"));
    for (key, debug) in [("rtmr3", false), ("rtmr3_debug", true)] {
        let last = case[key].as_array().unwrap().last().unwrap();
        let register = rtmr3(&measured().unwrap(), debug);
        assert_eq!(hex::encode(register), text(last, "rtmr3_after_hex"));
    }
    write(&folder.path().join("app.json"), b"{}", 0o644);
    let error = measured().unwrap_err().to_string();
    assert!(error.contains("something was changed"), "{error}");
}

/// Trees of which the vectors give only the hashes of the files.
#[test]
fn recorded_trees() {
    let vectors = vectors();
    for case in vectors["spec_tree"].as_array().unwrap() {
        let mut root = Node::directory();
        for file in case["files"].as_array().into_iter().flatten() {
            let node = Node::File {
                executable: text(file, "mode") == "100755",
                hash: hex::decode(text(file, "blob_hash"))
                    .unwrap()
                    .try_into()
                    .unwrap(),
            };
            insert(&mut root, text(file, "path"), node);
        }
        let tree = SpecTree(root.hash());
        assert_eq!(
            tree.to_string(),
            text(case, "spec_tree"),
            "{}",
            text(case, "name")
        );
        for (key, debug) in [("rtmr3", false), ("rtmr3_debug", true)] {
            let Some(events) = case[key].as_array() else {
                continue;
            };
            assert_eq!(
                hex::encode(rtmr3(&tree, debug)),
                text(events.last().unwrap(), "rtmr3_after_hex")
            );
        }
    }
}

fn insert(node: &mut Node, path: &str, leaf: Node) {
    let Node::Directory(children) = node else {
        panic!("{path} is under a file")
    };
    match path.split_once('/') {
        None => assert!(children.insert(path.to_owned(), leaf).is_none()),
        Some((first, rest)) => {
            insert(
                children
                    .entry(first.to_owned())
                    .or_insert_with(Node::directory),
                rest,
                leaf,
            );
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let refuse = |prepare: &dyn Fn(&Path), word: &str| {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("a"), b"a", 0o644);
        prepare(folder.path());
        let error = spec_tree::measure(folder.path()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    };
    refuse(
        &|f| write(&f.join("sub/.gitignore"), b"*\n", 0o644),
        "rules for git",
    );
    refuse(
        &|f| write(&f.join(".gitattributes"), b"*\n", 0o644),
        "rules for git",
    );
    refuse(&|f| write(&f.join("sub/.git/x"), b"", 0o644), "repository");
    refuse(&|f| symlink("a", f.join("b")).unwrap(), "only files");
    refuse(
        &|f| {
            fs::File::create(f.join("big"))
                .unwrap()
                .set_len((10 << 20) + 1)
                .unwrap()
        },
        "10 MiB",
    );
    refuse(
        &|f| write(&f.join("spec.tree"), b"00", 0o644),
        "spec.tree says 00",
    );
}

#[test]
fn verity_roots_and_hash_devices() {
    let vectors = vectors();
    for case in vectors["dm_verity"]["vectors"].as_array().unwrap() {
        let blocks = case["data_blocks"].as_u64().unwrap();
        let mut verity = Verity::with_hash_device();
        for index in 0..blocks {
            verity
                .write_all(&[((7 * index + 3) % 256) as u8; BLOCK_LEN])
                .unwrap();
        }
        let tree = verity.finish().unwrap();
        assert_eq!(
            hex::encode(tree.root),
            text(case, "root_hash_hex"),
            "{blocks} blocks"
        );
        let device = tree.hash_device.unwrap();
        assert_eq!(
            device.len() as u64,
            case["hash_device_len"].as_u64().unwrap()
        );
        assert_eq!(
            hex::encode(Sha256::digest(&device)),
            text(case, "hash_device_sha256"),
            "{blocks} blocks"
        );
        // The size of the pieces does not matter.
        let mut uneven = Verity::new();
        let data: Vec<u8> = (0..blocks)
            .flat_map(|index| [((7 * index + 3) % 256) as u8; BLOCK_LEN])
            .collect();
        for piece in data.chunks(1_000) {
            uneven.write_all(piece).unwrap();
        }
        assert_eq!(uneven.finish().unwrap().root, tree.root);
    }
    Verity::new().finish().unwrap_err();
    let mut partial = Verity::new();
    partial.write_all(&[1; 5_000]).unwrap();
    partial.finish().unwrap_err();
}

/// A report and a quote of one domain name one image.
#[test]
fn the_image_hash_of_a_td_report() {
    let vectors = vectors();
    let case = &vectors["td_report"];
    let report = STANDARD.decode(text(case, "report_b64")).unwrap();
    let found = TdxMeasurements::from_td_report(&report).unwrap();
    assert_eq!(
        hex::encode(found.image_hash()),
        text(case, "image_hash_hex")
    );
    let at = case["report_data_offset"].as_u64().unwrap() as usize;
    assert_eq!(found.report_data, report[at..at + 64]);
    for (at, value) in [(0, 0x80), (1, 1), (2, 2), (3, 1)] {
        let mut other = report.clone();
        other[at] = value;
        assert!(
            TdxMeasurements::from_td_report(&other).is_none(),
            "byte {at}"
        );
    }
    assert!(TdxMeasurements::from_td_report(&report[1..]).is_none());
}

/// The tool that guests use, over the borders of one, two and three levels. Debian: package cryptsetup-bin.
#[test]
fn hash_devices_equal_those_of_veritysetup() {
    let version = Command::new("veritysetup").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no veritysetup");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for blocks in [1_usize, 2, 127, 128, 129, 256, 16_384, 16_385, 16_513] {
        let data: Vec<u8> = (0..blocks)
            .flat_map(|block| [(block * 31 % 251) as u8; BLOCK_LEN])
            .collect();
        fs::write(at("data"), &data).unwrap();
        let _ = fs::remove_file(at("hashes"));
        let output = Command::new("veritysetup")
            .args(["format", "--salt", "00010203040506070809101a1b1c1d1e1f"])
            .args(["--uuid", "645ac31f-7610-42e1-8434-9d733699eac0"])
            .args([at("data"), at("hashes")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let root = words
            .lines()
            .find_map(|line| line.strip_prefix("Root hash:"));
        let mut verity = Verity::with_hash_device();
        verity.write_all(&data).unwrap();
        let tree = verity.finish().unwrap();
        assert_eq!(
            hex::encode(tree.root),
            root.unwrap().trim(),
            "{blocks} blocks"
        );
        // A file grows to whole blocks of hashes; nothing else may follow.
        let theirs = fs::read(at("hashes")).unwrap();
        assert!(tree.hash_device.unwrap() == theirs, "{blocks} blocks");
    }
}

/// The recorded package, rebuilt from files.
#[test]
fn the_model_package_of_the_specification() {
    let vectors = vectors();
    let case = &vectors["model_package"];
    let folder = tempfile::tempdir().unwrap();
    for file in case["files"].as_array().unwrap() {
        let mode = u32::from_str_radix(text(file, "mode"), 8).unwrap();
        let contents = hex::decode(text(file, "content_hex")).unwrap();
        write(&folder.path().join(text(file, "path")), &contents, mode);
    }
    // The download tool's directory is left out.
    write(&folder.path().join(".cache/huggingface/x"), b"x", 0o644);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut made = Vec::new();
    write_tar(folder.path(), &mut made).unwrap();
    assert_eq!(
        made.len() as u64,
        case["tar_unpadded_len"].as_u64().unwrap()
    );
    let padded = [&made[..], &[0; BLOCK_LEN][made.len() % BLOCK_LEN..]].concat();
    assert_eq!(
        hex::encode(Sha256::digest(&padded)),
        text(case, "tar_sha256")
    );
    let tree = model_package::measure(folder.path(), Verity::new()).unwrap();
    let root = hex::encode(tree.root);
    assert_eq!(root, text(case, "root_hash_hex"));
    assert_eq!(
        tree.data_blocks * BLOCK_LEN as u64,
        case["tar_len"].as_u64().unwrap()
    );
    let example = text(case, "model_string_example");
    assert!(example.ends_with(&format!(":{root}")));
    assert_eq!(
        hex::encode(model_hash(example)),
        text(case, "model_hash_in_root_contract_sha256")
    );
}

/// Long names, names beyond ASCII, odd modes, the order of directories beside files with similar names.
#[test]
fn packages_equal_those_of_gnu_tar() {
    let version = Command::new("tar").arg("--version").output();
    if !version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("GNU tar")) {
        eprintln!("SKIPPED: no GNU tar");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("model");
    let long = |letter: &str, length: usize| letter.repeat(length);
    for (name, contents, mode) in [
        ("config.json".to_owned(), &b"{}"[..], 0o640),
        ("sub/y".to_owned(), b"1", 0o700),
        ("sub-a/q".to_owned(), b"2", 0o444),
        ("sub.txt".to_owned(), b"", 0o666),
        ("\u{e9}.txt".to_owned(), b"3", 0o600),
        (format!("sub/{}", long("n", 120)), b"4", 0o644),
        (long("k", 98), b"5", 0o644),
        (long("k", 97), b"6", 0o644),
        (
            format!("{}/{}/f", long("d", 60), long("e", 50)),
            b"7",
            0o755,
        ),
    ] {
        write(&root.join(name), contents, mode);
    }
    write(&root.join("big.bin"), &vec![7; 100_000], 0o644);
    fs::create_dir(root.join("empty")).unwrap();
    let mut ours = Vec::new();
    write_tar(&root, &mut ours).unwrap();
    let options = [
        "--sort=name",
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--clamp-mtime",
        "--mtime=@0",
        "--numeric-owner",
        "--owner=0",
        "--group=0",
        "--mode=go+u,go-w",
        "-cf",
        "-",
        ".",
    ];
    let theirs = Command::new("tar")
        .args(options)
        .current_dir(&root)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(theirs.status.success(), "{theirs:?}");
    assert_eq!(ours.len(), theirs.stdout.len());
    let differs = ours.iter().zip(&theirs.stdout).position(|(a, b)| a != b);
    assert_eq!(differs, None);
    symlink("config.json", root.join("link")).unwrap();
    let error = write_tar(&root, &mut Vec::new()).unwrap_err();
    assert!(matches!(error, PackageError::Kind { .. }), "{error}");
}
