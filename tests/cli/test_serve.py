"""`serve` refuses what is unsafe, speaks good TLS only, counts across workers and stops in order."""

import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from taxii_server.cli import serve
from taxii_server.storage import embedded, migrations
from tests.cli.conftest import Run
from tests.cli.processes import PATIENCE, Process, alive, descendants, taxii_server

_SERVING = re.compile(r'"url": "(?P<url>[^"]+)"')


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(signed.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def url_of(process: Process) -> str:
    said = process.wait_for('"event": "serving"')
    found = _SERVING.search(said)
    assert found is not None
    return found["url"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "must not travel in clear"),  # noqa: S104 - refused
        (["--host", "::"], "must not travel in clear"),
        (["--host", "192.0.2.1"], "must not travel in clear"),
        (["--host", "0.0.0.0", "--behind-tls-proxy"], "Set TAXII_PUBLIC_URL"),  # noqa: S104 - refused
        (["--tls-cert", "c.pem"], "takes both"),
        (["--tls-cert", "c.pem", "--tls-key", "k.pem"], "can't be used for TLS"),
        (["--tls-cert", "c.pem", "--tls-key", "k.pem", "--behind-tls-proxy"], "Choose one"),
        (["--host", "no host"], "There is no address no host"),
    ],
)
def test_what_is_unsafe_is_refused(run: Run, arguments: list[str], said: str) -> None:
    """Before anything listens, with what to give instead."""
    refused = run("serve", "--port", "0", *arguments)

    assert refused.code == 1
    assert said in refused.err


def test_a_taken_port_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port of the API as well as that of the metrics, by name."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        api = run("serve", "--port", port)
        monkeypatch.setenv("TAXII_METRICS_PORT", port)
        metrics = run("serve", "--port", "0")

    assert (api.code, metrics.code) == (1, 1)
    assert f"Port {port} of 127.0.0.1 can't be used" in api.err
    assert "Set TAXII_METRICS_PORT" in metrics.err


def test_an_encrypted_key_is_refused(run: Run, certificate: tuple[Path, Path]) -> None:
    """It would ask for its password where nobody is."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate[1].write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    )

    refused = run("serve", "--port", "0", "--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))

    assert refused.code == 1
    assert "is encrypted" in refused.err


@contextmanager
def _tls_listener(certificate: tuple[Path, Path]) -> Iterator[int]:
    """Shake hands with whoever connects, as the server would."""
    context = serve.tls_context(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def shake() -> None:
            connection, _ = listener.accept()
            try:
                with context.wrap_socket(connection, server_side=True) as made:
                    made.recv(1)
            except OSError:
                connection.close()

        thread = threading.Thread(target=shake)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(10)


def _shaken(certificate: tuple[Path, Path], version: ssl.TLSVersion, ciphers: str | None) -> tuple[str, str] | None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    with _tls_listener(certificate) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="localhost") as made:
                cipher = made.cipher()
                return (made.version() or "", cipher[0]) if cipher else None
        except OSError:
            return None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("version", "ciphers", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_3, None, True),
        (ssl.TLSVersion.TLSv1_2, None, True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-CHACHA20-POLY1305", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES256-SHA", False),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:@SECLEVEL=0", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
    ],
)
def test_tls_is_1_2_or_newer_with_good_suites(
    certificate: tuple[Path, Path], version: ssl.TLSVersion, ciphers: str | None, accepted: bool
) -> None:
    """§8.2.2: TLS 1.2 and 1.3; none of the suites of RFC 7540 Appendix A (CBC, RSA key exchange)."""
    assert (_shaken(certificate, version, ciphers) is not None) is accepted


def test_it_serves_and_stops_in_order(environment: dict[str, str], tmp_path: Path) -> None:
    """Ready once it says so; on SIGTERM it ends with 0. A setting that was mistyped is told, without its value."""
    mistyped = environment | {"TAXII_SECRET_KEYS": environment["TAXII_SECRET_KEY"]}
    with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=mistyped) as process:
        url = url_of(process)
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/taxii2/").status_code == 401
        assert "server" not in httpx.get(f"{url}/healthz").headers

        assert process.stop(signal.SIGTERM) == 0

    assert process.said.count("TAXII_SECRET_KEYS: did you mean 'TAXII_SECRET_KEY'?") == 1
    assert environment["TAXII_SECRET_KEY"] not in process.said


@pytest.mark.slow
def test_it_speaks_tls(environment: dict[str, str], certificate: tuple[Path, Path], tmp_path: Path) -> None:
    """With a certificate it speaks HTTPS and says so in its URLs."""
    arguments = ("serve", "--host", "localhost", "--port", "0")
    tls = ("--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1]))
    with taxii_server(*arguments, *tls, cwd=tmp_path, settings=environment) as process:
        url = url_of(process)
        assert url.startswith("https://localhost:")
        answer = httpx.get(f"{url}/healthz", verify=ssl.create_default_context(cafile=str(certificate[0])))
        assert answer.status_code == 200


@pytest.mark.slow
def test_metrics_add_up_over_workers(environment: dict[str, str], tmp_path: Path) -> None:
    """Whichever worker answered, and also after one was killed, every request is counted once."""
    metrics = free_port()
    settings = environment | {"TAXII_METRICS_PORT": str(metrics)}
    with taxii_server("serve", "--port", "0", "--workers", "2", cwd=tmp_path, settings=settings) as process:
        url = url_of(process)
        process.wait_for("Application startup complete")
        for _ in range(20):
            assert httpx.get(f"{url}/taxii2/", timeout=30).status_code == 401
        before = _requests(metrics)
        worker = re.search(r"Started server process \[(\d+)\]", process.said)
        assert worker is not None
        subprocess.run(["kill", "-9", worker[1]], check=True)  # noqa: S607 - by its own number
        process.wait_for("died")

        assert (before, _requests(metrics)) == (20, 20)
        assert process.stop(signal.SIGTERM) == 0


def _metrics(port: int) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics").text


def _requests(port: int) -> float:
    counted = re.findall(r'^taxii_requests_total\{[^}]*route="/taxii2/"[^}]*\} (\S+)$', _metrics(port), re.MULTILINE)
    return sum(map(float, counted))


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(environment: dict[str, str], tmp_path: Path) -> None:
    """Be it by kill -9: neither they nor their validators stay, and the port is free for the next start."""
    command = ("serve", "--port", str(free_port()), "--workers", "2")
    with taxii_server(*command, cwd=tmp_path, settings=environment) as process:
        url = url_of(process)
        said = process.wait_for("Application startup complete", times=2)
        workers = [int(number) for number in re.findall(r"Started server process \[(\d+)\]", said)]
        family = descendants(process.running.pid)
        assert set(workers) < set(family)
        assert all(map(descendants, workers))
        process.running.kill()
        process.running.wait()

        try:
            until = time.monotonic() + 10
            while any(map(alive, family)) and time.monotonic() < until:
                time.sleep(0.1)
            assert [each for each in family if alive(each)] == []
        finally:
            for each in filter(alive, family):
                os.kill(each, signal.SIGKILL)
        process.wait_for("Finished server process", times=2)

    with taxii_server(*command, cwd=tmp_path, settings=environment) as process:
        process.wait_for("Application startup complete", times=2)
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert process.stop(signal.SIGTERM) == 0


@pytest.mark.slow
def test_it_stops_in_time_while_postgres_is_stopped(environment: dict[str, str], tmp_path: Path) -> None:
    """Its processes are halted, so nothing is closed and nothing answered. Who waits is told; no fault is logged."""
    with tempfile.TemporaryDirectory(prefix="taxii-halted-") as made, ExitStack() as stack:
        folder = Path(made)
        folder.chmod(0o755)  # the account that runs PostgreSQL gets in, also when tests run as root
        urls = stack.enter_context(embedded.running(folder / "data", fsync=False))
        migrations.upgrade(urls.owner)
        (lock,) = (folder / "data").rglob("postmaster.pid")
        postmaster = int(lock.read_text("utf-8").split()[0])
        metrics = free_port()
        settings = environment | {"TAXII_DATABASE_URL": urls.server, "TAXII_METRICS_PORT": str(metrics)}
        with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=settings) as process:
            url = url_of(process)
            assert httpx.get(f"{url}/readyz").status_code == 200
            family = [postmaster, *descendants(postmaster)]
            for each in family:
                os.kill(each, signal.SIGSTOP)
                stack.callback(os.kill, each, signal.SIGCONT)
            with ThreadPoolExecutor() as asking:
                waiting = asking.submit(httpx.get, f"{url}/.well-known/jwks.json", timeout=PATIENCE)
                until = time.monotonic() + PATIENCE
                while "taxii_requests_in_progress 1.0" not in _metrics(metrics) and time.monotonic() < until:
                    time.sleep(0.1)
                begun = time.monotonic()
                assert process.stop(signal.SIGTERM) == 0
                took = time.monotonic() - begun
                answer = waiting.result()

    assert answer.status_code == 503
    assert "Traceback" not in process.said
    # Docker kills after ten: seven for requests, one for last words; the rest is for a busy machine
    assert took < 14


@pytest.mark.slow
def test_another_secret_key_is_told_in_a_sentence(environment: dict[str, str], tmp_path: Path) -> None:
    """The signing keys in the database were sealed with the first one: a refusal, before anything is served."""
    with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=environment) as process:
        process.wait_for("serving")
        process.stop(signal.SIGTERM)

    with taxii_server(
        "serve", "--port", "0", cwd=tmp_path, settings=environment | {"TAXII_SECRET_KEY": "o" * 40}
    ) as process:
        assert process.ended() == 1

    assert "another TAXII_SECRET_KEY" in process.said
    assert "Traceback" not in process.said


@pytest.mark.slow
def test_an_option_that_postgres_does_not_know_is_told(environment: dict[str, str], tmp_path: Path) -> None:
    """A typing error in TAXII_DATABASE_URL ends in a sentence with the option's name."""
    url = environment["TAXII_DATABASE_URL"]
    wrong = f"{url}{'&' if '?' in url else '?'}sslmodee=require"
    with taxii_server("member", "list", cwd=tmp_path, settings=environment | {"TAXII_DATABASE_URL": wrong}) as process:
        assert process.ended() == 1

    assert "sslmodee" in process.said
    assert "Traceback" not in process.said
