"""Networks for the tests. What a failing test leaves behind is kept in the folder of logs."""

import shutil

import openai
import pytest
from backend import Backend
from chain import Chain
from net import LOGS, Network


def pytest_configure(config):
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.session.stash.setdefault(FAILED, []).append(item.name)


FAILED = pytest.StashKey[list]()
NETWORKS = []


@pytest.fixture(scope="session")
def new_network(tmp_path_factory):
    """Makes networks and ends them with the session."""

    def make(name, *flags):
        network = Network(tmp_path_factory.mktemp(name) / "data", *flags, name=name)
        NETWORKS.append(network)
        return network

    return make


def pytest_sessionfinish(session):
    for network in NETWORKS:
        if network.process is not None:
            network.kill()
        logs = network.data_dir / "logs"
        if logs.is_dir():
            shutil.copytree(logs, LOGS / f"{network.name}-logs", dirs_exist_ok=True)
    if session.stash.get(FAILED, []):
        print(f"\nlogs of the networks are in {LOGS}")
    else:
        shutil.rmtree(LOGS, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny(new_network):
    """A network with the embedded engine and the tiny model: nothing in it is fake but the attestation."""
    return new_network("tiny").start()


@pytest.fixture(scope="session")
def backend():
    return Backend()


@pytest.fixture(scope="session")
def priced(new_network, backend):
    """A network with the tests' own engine, an odd price and a coefficient that rounds (spec/protocol.md 6.1)."""
    flags = ["--upstream", backend.url, "--price", 7919, "--worker-fee", 6007, "--coefficient", 4100]
    return new_network("priced", *flags).start()


@pytest.fixture
def say(capsys):
    """Prints figures that are worth reading also when the test passes."""

    def line(text):
        with capsys.disabled():
            print(f"\n  {text}", flush=True)

    return line


@pytest.fixture
def chain_of():
    return Chain


@pytest.fixture
def client_of():
    """The official client, without its own retries: a test wants to see the first answer."""

    def make(network):
        return openai.OpenAI(base_url=network.base_url, api_key="unused", max_retries=0, timeout=60)

    return make
