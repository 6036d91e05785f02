"""Every setting: one frozen object, read from `TAXII_*` variables or `.env`, refused at start if unsafe.

Nothing below the faces' wiring reads it: values are passed down. docs/settings.md describes each.
"""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SettingsConfigDict,
)

from taxii_server.domain.allowances import Rate
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.words import did_you_mean, printable

_KIB = 1024
_MIB = 1024 * _KIB
_SHORTEST_SECRET = 32
_LARGEST_PORT = 65_535
_THIS_MACHINE = {"127.0.0.1", "::1", "localhost"}
# what browsers send as Origin: lower case, no path, not even its slash, and no port that goes without saying
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[1-9][0-9]{0,4}))?")
_USUAL_PORT = {"https": "443", "http": "80"}
_NO_LIMIT = "none"
# an underscore is not told from a hyphen by everybody on the way, so a client could send one that a proxy lets pass
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_HEADERS_OF_OTHERS = re.compile(
    r"accept.*|authorization|connection|content-.*|cookie|host|te|transfer-.*|x-forwarded-.*", re.IGNORECASE
)
# what commands take secrets from, and what `serve` tells its workers
_NO_SETTINGS = {"TAXII_CLIENT_SECRET", "TAXII_TOKEN", "TAXII_WORKERS", "TAXII_WORKER_CONNECTIONS"}
_WHAT_WOULD_BE_RIGHT = {
    "time_delta_parsing": "must be an ISO 8601 duration like PT15M, or a number of seconds",
    "int_parsing": "must be a whole number",
}


class Settings(BaseSettings):
    """What an operator can set. Every default is safe and works for a trial on one machine."""

    model_config = SettingsConfigDict(env_prefix="TAXII_", env_file=".env", extra="ignore", frozen=True)

    database_url: SecretStr | None = None
    migration_database_url: SecretStr | None = None
    database_replica_urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    database_connections: Annotated[int, Field(ge=3, le=200)] = 10
    data_dir: Path | None = None
    embedded_user: str | None = None

    secret_key: SecretStr | None = None
    public_url: str = "http://127.0.0.1:8000"
    title: Annotated[str, Field(min_length=1)] = "TAXII 2.1 server"
    description: str | None = None
    contact: str | None = None
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    client_cert_header: str | None = None

    page_size: Annotated[int, Field(ge=1)] = 1000
    page_size_max: Annotated[int, Field(ge=1, le=100_000)] = 10_000
    page_bytes: Annotated[int, Field(ge=1)] = 8 * _MIB
    max_content_length: Annotated[int, Field(ge=_KIB, le=256 * _MIB)] = 10 * _MIB
    max_object_length: Annotated[int, Field(ge=_KIB, le=256 * _MIB)] = 5 * _MIB
    body_timeout: timedelta = timedelta(seconds=60)

    client_rate: Annotated[Rate | None, NoDecode] = Rate(12_000, 60)
    client_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 32
    failed_logins: Annotated[Rate | None, NoDecode] = Rate(60, 60)

    token_lifetime: timedelta = timedelta(minutes=15)
    signing_key_lifetime: timedelta = timedelta(days=90)
    status_keep: timedelta = timedelta(days=7)
    activity_interval: timedelta = timedelta(seconds=15)
    audit_head_interval: timedelta = timedelta(minutes=5)
    audit_head_file: Path | None = None

    validator_processes: Annotated[int, Field(ge=1, le=256)] | None = None
    log_format: Literal["console", "json"] | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9464

    @field_validator("public_url")
    @classmethod
    def _absolute_without_slash(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            message = "must be an absolute URL like https://taxii.example.org"
            raise ValueError(message)
        if parts.path not in {"", "/"}:
            message = "must have no path: the standard puts discovery at /taxii2/ of the host"
            raise ValueError(message)
        if parts.scheme == "http" and parts.hostname not in _THIS_MACHINE:
            message = (
                "must begin with https:// unless the host is this machine: TAXII credentials never travel in clear"
            )
            raise ValueError(message)
        return url.rstrip("/")

    @field_validator("cors_origins", "trusted_proxies", "database_replica_urls", mode="before")
    @classmethod
    def _listed(cls, given: str | tuple[str, ...]) -> tuple[str, ...]:
        listed = given.split(",") if isinstance(given, str) else given
        return tuple(one.strip() for one in listed if one.strip())

    @field_validator("trusted_proxies")
    @classmethod
    def _some_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for one in networks:
            try:
                everybody = ip_network(one).prefixlen == 0
            except ValueError:
                message = f"{one} is no address or network: name each as 10.0.0.7, 10.0.0.0/24 or fd00::/8, with commas between"
                raise ValueError(message) from None
            if everybody:
                message = f"{one} would believe everybody: name the proxies alone"
                raise ValueError(message)
        return networks

    @field_validator("cors_origins")
    @classmethod
    def _exact_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for one in origins:
            parts = _ORIGIN.fullmatch(one)
            if parts is None or (parts["port"] and int(parts["port"]) > _LARGEST_PORT):
                message = (
                    f"{one} is no origin: name each as https://host or https://host:port, in lower case, without a path "
                    "or a wildcard, with commas between them"
                )
                raise ValueError(message)
            if parts["port"] == _USUAL_PORT[parts["scheme"]]:
                message = f"{one} would never match, because browsers leave :{parts['port']} out: leave it out too"
                raise ValueError(message)
            if parts["scheme"] == "http" and parts["host"].strip("[]") not in _THIS_MACHINE:
                message = f"{one} must begin with https:// unless the host is this machine: its pages come in clear"
                raise ValueError(message)
        return origins

    @field_validator("client_cert_header")
    @classmethod
    def _of_its_own(cls, name: str | None) -> str | None:
        if name is not None and (not _HEADER.fullmatch(name) or _HEADERS_OF_OTHERS.fullmatch(name)):
            message = (
                "must be the name of a header that means nothing else, like Client-Cert: letters, digits and hyphens"
            )
            raise ValueError(message)
        return name

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _of_postgres(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and (fault := _fault(url)) is not None:
            raise ValueError(fault)
        return url

    @field_validator("database_replica_urls")
    @classmethod
    def _each_of_postgres(cls, urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for number, url in enumerate(urls, start=1):
            if (fault := _fault(url)) is not None:
                message = f"number {number} {fault}; between URLs stand commas, and one in a URL is written %2C"
                raise ValueError(message)
        return urls

    @field_validator("secret_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < _SHORTEST_SECRET:
            message = f"must have at least {_SHORTEST_SECRET} characters: openssl rand -hex 32"
            raise ValueError(message)
        return key

    @field_validator("client_rate", "failed_logins", mode="before")
    @classmethod
    def _rate_or_none(cls, rate: str | Rate | None) -> Rate | None:
        if isinstance(rate, str):
            return None if rate.strip() == _NO_LIMIT else Rate.parse(rate)
        return rate

    @field_validator("status_keep")
    @classmethod
    def _a_day_at_least(cls, keep: timedelta) -> timedelta:
        if keep < timedelta(hours=24):
            message = "must be at least 24 hours (TAXII 2.1 §4.3)"
            raise ValueError(message)
        return keep

    @field_validator("token_lifetime")
    @classmethod
    def _short(cls, lifetime: timedelta) -> timedelta:
        if not timedelta(seconds=30) <= lifetime <= timedelta(hours=24):
            message = "must lie between 30 seconds and 24 hours"
            raise ValueError(message)
        return lifetime

    @field_validator("signing_key_lifetime")
    @classmethod
    def _some_days(cls, lifetime: timedelta) -> timedelta:
        if lifetime < timedelta(days=1):
            message = "must be at least one day: every key is published until its last token has expired"
            raise ValueError(message)
        return lifetime

    @field_validator("body_timeout", "activity_interval")
    @classmethod
    def _patient(cls, pause: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= pause <= timedelta(minutes=10):
            message = "must lie between one second and ten minutes"
            raise ValueError(message)
        return pause

    @field_validator("audit_head_interval")
    @classmethod
    def _often(cls, interval: timedelta) -> timedelta:
        if not timedelta(seconds=10) <= interval <= timedelta(days=1):
            message = "must lie between ten seconds and a day"
            raise ValueError(message)
        return interval

    @model_validator(mode="after")
    def _agree(self) -> Settings:
        if self.page_size > self.page_size_max:
            message = "TAXII_PAGE_SIZE must not exceed TAXII_PAGE_SIZE_MAX"
            raise ValueError(message)
        if self.client_cert_header is not None and not self.trusted_proxies:
            message = "TAXII_CLIENT_CERT_HEADER is believed from TAXII_TRUSTED_PROXIES alone: name them"
            raise ValueError(message)
        if self.database_replica_urls and self.database_url is None:
            message = "TAXII_DATABASE_REPLICA_URLS names replicas of the PostgreSQL of TAXII_DATABASE_URL: set that too"
            raise ValueError(message)
        if self.database_url is not None and self.secret_key is None:
            message = "TAXII_SECRET_KEY is needed with TAXII_DATABASE_URL: openssl rand -hex 32, the same on every node"
            raise ValueError(message)
        return self


def _fault(url: SecretStr) -> str | None:
    """Tell what is wrong with the URL of a database, without its value."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme != "postgresql+psycopg":
        return "must begin with postgresql+psycopg://"
    # told here, because whoever tries to connect would take the rest of a password for a host, and say so
    if parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment:
        return "has an @ too many: percent-encode what means something in a URL, @ of a password as %40, / as %2F"
    try:
        _ = parts.port
    except ValueError:
        return "has a port that is no number from 0 to 65535"
    return None


def load() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        OperatorError: naming every setting that is wrong and what would be right; never a secret's value.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{'TAXII_' + str(problem['loc'][0]).upper() + ': ' if problem['loc'] else ''}"
            f"{_WHAT_WOULD_BE_RIGHT.get(problem['type'], problem['msg'].removeprefix('Value error, '))}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise OperatorError("\n".join(lines)) from None


def unknown() -> list[str]:
    """Name what looks like a setting, in the environment or `.env`, and is none, each with what was perhaps meant."""
    given = {*EnvSettingsSource(Settings).env_vars, *DotEnvSettingsSource(Settings).env_vars}
    known = {f"TAXII_{name.upper()}" for name in Settings.model_fields}
    named = {name.upper() for name in given if name.upper().startswith("TAXII_")}
    return [f"{printable(name)}{did_you_mean(name, known)}" for name in sorted(named - known - _NO_SETTINGS)]
