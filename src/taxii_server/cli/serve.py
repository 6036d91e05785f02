"""`serve`: the web server, and all that stands around it."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import structlog
import typer
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from taxii_server import settings as environment
from taxii_server.cli import context, metrics
from taxii_server.cli.context import Place
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import replica_check
from taxii_server.web import logs
from taxii_server.web.bounded_http import BoundedHttp
from taxii_server.web.doors import COUNTS, Counts, FairLoop

log = structlog.get_logger(__name__)

_FAIR_LOOP: Final = f"{FairLoop.__module__}:{FairLoop.__qualname__}"
_APP: Final = "taxii_server.app:from_environment"
_GRACE: Final = 7  # seconds for requests under way; last words and leaving take two more, and Docker kills after ten
_KEEP_ALIVE: Final = 75  # longer than proxies keep a connection, so that they are the ones to close it
# TLS 1.2 with forward secrecy and authenticated encryption only: none of RFC 7540 Appendix A (TAXII 2.1 §8.2.2). The
# suites of TLS 1.3 are all allowed and not listed here; early data (0-RTT) is off in OpenSSL unless asked for.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_NOT_STARTED: Final = "The server did not start; the log above says why."
# the only hosts that Settings lets speak plain HTTP
_THIS_MACHINE: Final = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen and how."""

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    certificate: Path | None = None
    key: Path | None = None
    behind_tls_proxy: bool = False

    @property
    def tls(self) -> bool:
        """Whether this server speaks TLS itself."""
        return self.certificate is not None


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that serve.")] = 1,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    behind_tls_proxy: Annotated[
        bool,
        typer.Option(
            "--behind-tls-proxy",
            help="A proxy in front speaks TLS; what it says of clients is believed if it is in TAXII_TRUSTED_PROXIES.",
        ),
    ] = False,
) -> None:
    """Run the server, until SIGTERM or Ctrl-C. Without TAXII_DATABASE_URL it runs a database of its own."""
    listening = Listening(host, port, workers, tls_cert, tls_key, behind_tls_proxy)
    refuse_unsafe(listening)
    until_stopped(lambda: _serve(listening))


def _serve(listening: Listening) -> None:
    with context.place() as here:
        logs.configure(here.settings.log_format, here.settings.log_level)
        here.need_schema()
        # a wrong TAXII_SECRET_KEY is told in a sentence now, and not by every worker
        here.run(lambda db: here.signing_keys(db).current())
        for finding in here.run(lambda db: replica_check.check(db, here.replica_urls)) if here.replica_urls else ():
            log.warning("replica_unfit", reason=finding.what, remedy=finding.remedy)
        run_server(here, listening)


def until_stopped(work: Callable[[], None]) -> None:
    """Do work that ends in order on SIGTERM as well as on Ctrl-C, which is no fault."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        work()
    except KeyboardInterrupt:
        log.info("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def refuse_unsafe(listening: Listening) -> None:
    """Refuse to send credentials in clear, and certificates that don't work.

    Raises:
        OperatorError: saying what to give.
    """
    if (listening.certificate is None) != (listening.key is None):
        raise OperatorError("TLS takes both --tls-cert and --tls-key.")
    if listening.tls and listening.behind_tls_proxy:
        raise OperatorError("Choose one: --tls-cert and --tls-key, or --behind-tls-proxy.")
    if listening.certificate is not None and listening.key is not None:
        try:
            tls_context(listening.certificate, listening.key)
        except (OSError, ssl.SSLError) as error:
            message = f"{listening.certificate} and {listening.key} can't be used for TLS: {error}"
            raise OperatorError(message) from error
    elif not listening.behind_tls_proxy and not all(map(_is_loopback, _addresses(listening.host))):
        message = (
            f"{listening.host} can be reached from other machines, and credentials must not travel in clear: give "
            "--tls-cert and --tls-key, or --behind-tls-proxy if a proxy in front of it speaks TLS."
        )
        raise OperatorError(message)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Make what TLS connections are accepted with: TLS 1.2 with good suites, and 1.3."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(_CIPHERS)
    made.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    made.set_alpn_protocols(["http/1.1"])
    made.load_cert_chain(certificate, key, password=_no_password)
    return made


def _no_password() -> str:
    raise OperatorError("The private key is encrypted: give one without a password, readable by the server alone.")


def uvicorn_tls(config: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Give uvicorn, in whichever process, our TLS."""
    if config.ssl_certfile is None or config.ssl_keyfile is None:
        return default()
    return tls_context(Path(config.ssl_certfile), Path(config.ssl_keyfile))


def run_server(here: Place, listening: Listening, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until told to stop; `on_ready` gets the public URL once requests are answered.

    Raises:
        OperatorError: if the port is taken or the application doesn't start.
    """
    if unknown := environment.unknown():
        log.warning("settings_unknown", names=unknown)
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(listening))
        public_url = _public_url(here, listening, listener.getsockname()[1])
        stack.enter_context(
            metrics.listening(here.settings.metrics_host, here.settings.metrics_port, listening.workers)
        )
        counts = Path(stack.enter_context(TemporaryDirectory(prefix="taxii-server-")), "connections")
        Counts.prepare(counts, listening.workers)
        stack.enter_context(_environment(here, public_url, listening.workers, counts))
        config = uvicorn.Config(
            _APP,
            factory=True,
            workers=listening.workers,
            loop=_FAIR_LOOP if listening.workers > 1 else "auto",
            http=BoundedHttp,
            ws="none",
            lifespan="on",
            access_log=False,
            server_header=False,
            log_config=None,
            proxy_headers=False,  # web/proxies.py has its own
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=_KEEP_ALIVE,
            ssl_certfile=listening.certificate,
            ssl_keyfile=listening.key,
            ssl_context_factory=uvicorn_tls if listening.tls else None,
        )
        if listening.workers > 1:
            log.info("serving", url=public_url, workers=listening.workers)
            supervisor = Multiprocess(config, sockets=[listener])
            supervisor.run()
            if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
                raise OperatorError(_NOT_STARTED)
            return

        def ready() -> None:
            log.info("serving", url=public_url, workers=1)
            if on_ready is not None:
                on_ready(public_url)

        server = _Server(config, ready)
        try:
            server.run(sockets=[listener])
        finally:
            # stopping takes its time; a second Ctrl-C must not leave a database behind
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not server.started:
            raise OperatorError(_NOT_STARTED)


@contextmanager
def _environment(here: Place, public_url: str, workers: int, counts: Path) -> Iterator[None]:
    """What the application reads, in this process or a worker's."""
    before = dict(os.environ)
    os.environ.update(
        TAXII_DATABASE_URL=here.server_url,
        TAXII_SECRET_KEY=here.secret_key,
        TAXII_PUBLIC_URL=public_url,
        TAXII_WORKERS=str(workers),
    )
    os.environ[COUNTS] = str(counts)
    os.environ.pop("TAXII_MIGRATION_DATABASE_URL", None)  # no business of what faces the network
    if here.embedded:
        # `demo` has a database of its own whatever the settings name, and that one has no replicas
        os.environ["TAXII_DATABASE_REPLICA_URLS"] = ""
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _listener(listening: Listening) -> socket.socket:
    family, kind, protocol, _, address = _resolve(listening.host, listening.port)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(1024)
        made.set_inheritable(True)
    except OSError as error:
        made.close()
        message = (
            f"Port {listening.port} of {listening.host} can't be used: {error.strerror}. Choose another with --port."
        )
        raise OperatorError(message) from error
    return made


def _public_url(here: Place, listening: Listening, port: int) -> str:
    """Where clients find this server: as set, else the address it listens on if only this machine reaches it."""
    if here.public_url is not None:
        return here.public_url
    if listening.behind_tls_proxy or listening.host not in _THIS_MACHINE:
        raise OperatorError("Set TAXII_PUBLIC_URL to the https:// address by which clients reach this server.")
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"{'https' if listening.tls else 'http'}://{host}:{port}"


def _resolve(host: str, port: int) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"There is no address {host} to listen on: {error}.") from error


def _addresses(host: str) -> list[str]:
    return [entry[4][0] for entry in _resolve(host, 0)]


def _is_loopback(address: str) -> bool:
    return ip_address(address.partition("%")[0]).is_loopback
