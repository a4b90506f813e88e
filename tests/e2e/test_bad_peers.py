"""What anybody can send to the proxy's ports: garbage, lies, silence. The network goes on."""

import hashlib
import os
import socket
import ssl
import struct
import subprocess

import pytest
from net import http

CHALLENGE_MAGIC = bytes.fromhex("91128e41")
RESPONSE_MAGIC = bytes.fromhex("19738201")
PORTS = ["worker_rpc_port", "client_rpc_port"]


def connect(network, port):
    stream = socket.create_connection(("127.0.0.1", network.info["proxy"][port]), timeout=10)
    stream.settimeout(10)
    return stream


def challenge(stream):
    data = b""
    while len(data) < 24:
        piece = stream.recv(24 - len(data))
        assert piece, "closed before the challenge"
        data += piece
    assert data[:4] == CHALLENGE_MAGIC
    return struct.unpack("<i", data[4:8])[0], data[8:]


def solve(difficulty, salt):
    nonce = 0
    while True:
        first = int.from_bytes(hashlib.sha256(salt + struct.pack("<q", nonce)).digest()[:8], "little")
        if first < 1 << (64 - difficulty):
            return nonce
        nonce += 1


def after_work(network, port):
    """A connection that has done its work: the next byte is TLS."""
    stream = connect(network, port)
    difficulty, salt = challenge(stream)
    assert difficulty == 8
    stream.sendall(RESPONSE_MAGIC + struct.pack("<q", solve(difficulty, salt)))
    return stream


def ended(stream):
    """Reads until the other side ends the connection; returns what came."""
    data = b""
    try:
        while piece := stream.recv(65536):
            data += piece
    except (ConnectionResetError, ssl.SSLError):
        pass
    return data


@pytest.fixture(autouse=True)
def still_serving(tiny):
    """After every attack the same process answers a real question over the same links."""
    links = tiny.stats("client")["proxy_connections"]
    yield
    assert tiny.alive()
    body = {"model": tiny.model, "prompt": "1 + 1 =", "max_tokens": 2}
    answer = tiny.post("/v1/completions", body)
    assert answer.status == 200, answer.body
    assert [c["is_ready"] for c in tiny.stats("client")["proxy_connections"]] == [c["is_ready"] for c in links]
    assert "panicked" not in tiny.stderr_text()


@pytest.mark.parametrize("port", PORTS)
def test_garbage_instead_of_the_work(tiny, port):
    for data in [os.urandom(12), b"GET / HTTP/1.1\r\n\r\n", b"\0" * 12, os.urandom(100_000)]:
        with connect(tiny, port) as stream:
            challenge(stream)
            try:
                stream.sendall(data)
            except (ConnectionResetError, BrokenPipeError):
                continue
            assert ended(stream) == b""


@pytest.mark.parametrize("port", PORTS)
def test_a_false_answer_to_the_challenge(tiny, port):
    with connect(tiny, port) as stream:
        difficulty, salt = challenge(stream)
        nonce = solve(difficulty, salt)
        wrong = next(
            n for n in range(nonce + 1, nonce + 10_000)
            if int.from_bytes(hashlib.sha256(salt + struct.pack("<q", n)).digest()[:8], "little") >= 1 << 60
        )
        stream.sendall(RESPONSE_MAGIC + struct.pack("<q", wrong))
        assert ended(stream) == b""


@pytest.mark.parametrize("port", PORTS)
def test_garbage_instead_of_tls(tiny, port):
    for data in [os.urandom(4096), b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000, b"\x16\x03\x03\x00\x00" * 100, b"\x7c\0\0\0" + b"\0" * 124]:
        with after_work(tiny, port) as stream:
            try:
                stream.sendall(data)
                stream.shutdown(socket.SHUT_WR)
            except OSError:
                continue
            # At most a TLS alert comes back.
            assert len(ended(stream)) < 100


def context():
    """TLS 1.3 without asking who the other side is."""
    settings = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname, settings.verify_mode = False, ssl.CERT_NONE
    settings.minimum_version = ssl.TLSVersion.TLSv1_3
    return settings


# A frame of 16 zero bytes: whole, but no message.
NO_MESSAGE = b"\x10\0\0\0" + b"\0" * 20


def speak_tls(network, port, settings, frame=NO_MESSAGE):
    """Shakes hands and sends a frame; returns what the proxy said to that, and the error that ended it."""
    stream = after_work(network, port)
    try:
        with settings.wrap_socket(stream) as tls:
            tls.settimeout(10)
            tls.sendall(frame)
            return tls.recv(4096), "closed"
    except (ssl.SSLError, ConnectionError) as error:
        return b"", str(error)


@pytest.mark.parametrize("port", PORTS)
def test_tls_without_a_certificate(tiny, port):
    said, error = speak_tls(tiny, port, context())
    assert said == b"", "a peer without a certificate was spoken to"
    assert error


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("kind", ["ed25519", "rsa:2048"])
def test_a_certificate_that_attests_nothing(tiny, port, kind, tmp_path):
    """A worker must show an attestation. A client need not, but has to speak the protocol; nothing else is answered."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", kind, "-nodes", "-keyout", key, "-out", certificate]
        + ["-subj", "/CN=mallory", "-days", "1"],
        check=True,
        capture_output=True,
    )
    settings = context()
    settings.load_cert_chain(certificate, key)
    before = tiny.stats("proxy")
    said, _error = speak_tls(tiny, port, settings)
    assert said == b"", "a peer with a false certificate was spoken to"
    after = tiny.stats("proxy")
    assert len(after["worker_connections"]) == len(before["worker_connections"])
    assert len(after["clients"]) == len(before["clients"])


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\0\0\0\0\0",
        b"\x0c\0\0\0\x07\0\0\0" + bytes.fromhex("61427ca5efcdab8967452301"),
        b"\x0c\0\0\0\0\0\0\0" + b"\xff" * 12,
        NO_MESSAGE,
    ],
    ids=["too long", "empty", "wrong number", "unknown constructor", "no message"],
)
def test_malformed_frames_of_a_client(tiny, frame, tmp_path):
    """Clients need no attestation, so anybody gets as far as the frames."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", key, "-out", certificate]
        + ["-subj", "/CN=mallory", "-days", "1"],
        check=True,
        capture_output=True,
    )
    settings = context()
    settings.load_cert_chain(certificate, key)
    said, error = speak_tls(tiny, "client_rpc_port", settings, frame)
    assert said == b"" and error


def test_old_tls(tiny):
    settings = context()
    settings.minimum_version = ssl.TLSVersion.TLSv1_2
    settings.maximum_version = ssl.TLSVersion.TLSv1_2
    said, error = speak_tls(tiny, "client_rpc_port", settings)
    assert said == b"" and error


def test_many_silent_connections(tiny):
    streams = [connect(tiny, port) for port in PORTS for _ in range(100)]
    try:
        body = {"model": tiny.model, "prompt": "2 + 2 =", "max_tokens": 2}
        assert tiny.post("/v1/completions", body).status == 200
        assert http(tiny.info["client"]["url"] + "/health").status == 200
    finally:
        for stream in streams:
            stream.close()
