"""The names of images and models, computed again in a few lines that share nothing with the program."""

import hashlib
import json
import subprocess

import pytest
from net import BINARY

BLOCK = 4096
SALT = bytes.fromhex("00010203040506070809101a1b1c1d1e1f")


def measure(*args):
    done = subprocess.run([BINARY, "attest", "measure", *map(str, args), "--json"], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def verity_root(data):
    """attestation.md 6.7."""

    def hashed(data):
        return [hashlib.sha256(SALT + data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)]

    level = hashed(data)
    while len(level) > 1:
        joined = b"".join(level)
        level = hashed(joined + bytes(-len(joined) % BLOCK))
    return level[0].hex()


def package(folder):
    """GNU tar as the specification calls it, and the zeros behind it."""
    options = ["--sort=name", "--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    options += ["--clamp-mtime", "--mtime=@0", "--numeric-owner", "--owner=0", "--group=0", "--mode=go+u,go-w"]
    tar = subprocess.run(["tar", *options, "-cf", "-", "."], cwd=folder, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                         capture_output=True, check=True).stdout  # fmt: skip
    return tar + bytes(BLOCK - len(tar) % BLOCK)


# Around one block of hashes (128 digests) and around one level more (16,384).
@pytest.mark.parametrize("size", [0, 1, 4096, 500_000, 512_000, 530_000, 67_070_000, 67_120_000])
def test_a_models_root_is_that_of_gnu_tar_and_sha256(tmp_path, size):
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("{}")
    pattern = bytes(range(251))
    (model / "sub" / "weights.bin").write_bytes((pattern * (size // 251 + 1))[:size])
    found = measure("model", model, "--name", "org/name@0123")
    tar = package(model)
    assert found["data_blocks"] == len(tar) // BLOCK
    assert found["verity_root"] == verity_root(tar)
    full = f"org/name@0123:{found['verity_root']}"
    assert (found["model"], found["model_hash"]) == (full, hashlib.sha256(full.encode()).hexdigest())


def test_a_configurations_hash_is_that_of_git_and_its_register_follows(tmp_path):
    """attestation.md 6.3 and 6.4."""
    spec = tmp_path / "spec"
    files = {"app.json": (b"{}\n", "100644"), "init": (b"#!/bin/sh\n", "100755"), "a-b": (b"1", "100644")}
    files |= {"a/z": (b"2", "100644"), "a.c": (b"", "100644"), "a/deep/er/x": (b"3", "100644")}
    for name, (data, mode) in files.items():
        path = spec / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if mode == "100755" else 0o644)

    def git(kind, body):
        return hashlib.sha256(f"{kind} {len(body)}".encode() + b"\0" + body).digest()

    def tree(folder):
        entries = []
        for path in folder.iterdir():
            relative = str(path.relative_to(spec))
            if path.is_dir():
                entries.append((path.name.encode() + b"/", b"40000", path.name, tree(path)))
            else:
                data, mode = files[relative]
                entries.append((path.name.encode(), mode.encode(), path.name, git("blob", data)))
        body = b"".join(mode + b" " + name.encode() + b"\0" + digest for _, mode, name, digest in sorted(entries))
        return git("tree", body)

    expected = tree(spec).hex()
    for flags, events in ([], []), (["--debug"], ["cocoon:cocoon_debug"]):
        found = measure("config", spec, *flags)
        assert found["spec_tree"] == expected
        register = bytes(48)
        for event in [f"cocoon:spec.tree={expected}", *events, "cocoon:tdx_inited"]:
            register = hashlib.sha384(register + hashlib.sha384(event.encode()).digest()).digest()
        assert found["rtmr3"] == register.hex()
