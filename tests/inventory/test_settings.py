"""Settings are safe as they come, and those that would be unsafe are refused with what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from taxii_server import settings
from taxii_server.domain.allowances import Rate
from taxii_server.domain.errors import OperatorError
from taxii_server.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql+psycopg://taxii_server:p@db.example/taxii"
KEY = "k" * 32


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: pytest.TempPathFactory) -> pytest.MonkeyPatch:
    """Nobody's settings."""
    monkeypatch.chdir(str(tmp_path))
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TAXII_{name.upper()}", raising=False)
    return monkeypatch


def test_without_any_setting_there_is_a_server(environment: pytest.MonkeyPatch) -> None:
    """The defaults are enough for a trial on one machine, and open nothing to others."""
    made = settings.load()

    assert made.database_url is None
    assert made.public_url == "http://127.0.0.1:8000"
    assert made.metrics_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"PUBLIC_URL": "http://taxii.example.org"}, "must begin with https://"),
        ({"PUBLIC_URL": "//taxii.example.org"}, "must be an absolute URL"),
        ({"PUBLIC_URL": "taxii.example.org"}, "must be an absolute URL"),
        ({"PUBLIC_URL": "https://taxii.example.org/?a=1"}, "must be an absolute URL"),
        ({"PUBLIC_URL": "https://taxii.example.org/#a"}, "must be an absolute URL"),
        ({"PUBLIC_URL": "https://taxii.example.org/below"}, "/taxii2/ of the host"),
        ({"SECRET_KEY": "k" * 31}, "at least 32 characters"),
        ({"DATABASE_URL": URL}, "TAXII_SECRET_KEY is needed"),
        ({"DATABASE_URL": "postgresql://db.example/taxii", "SECRET_KEY": KEY}, "must begin with postgresql+psycopg://"),
        ({"MIGRATION_DATABASE_URL": "sqlite:///x"}, "TAXII_MIGRATION_DATABASE_URL: must begin with"),
        ({"DATABASE_URL": "postgresql+psycopg://u:hun@ter2@db/taxii", "SECRET_KEY": KEY}, "percent-encode"),
        ({"DATABASE_URL": "postgresql+psycopg://u:hun/ter2@db/taxii", "SECRET_KEY": KEY}, "percent-encode"),
        ({"DATABASE_URL": "postgresql+psycopg://u:hunter2@db:abc/taxii", "SECRET_KEY": KEY}, "port that is no number"),
        ({"DATABASE_REPLICA_URLS": URL}, "set that too"),
        (
            {"DATABASE_REPLICA_URLS": f"{URL}, sqlite:///x", "DATABASE_URL": URL, "SECRET_KEY": KEY},
            "TAXII_DATABASE_REPLICA_URLS: number 2 must begin with postgresql+psycopg://",
        ),
        (
            {
                "DATABASE_REPLICA_URLS": "postgresql+psycopg://u:hun,ter2@db/taxii",
                "DATABASE_URL": URL,
                "SECRET_KEY": KEY,
            },
            "one in a URL is written %2C",
        ),
        ({"TOKEN_LIFETIME": "15m"}, "TAXII_TOKEN_LIFETIME: must be an ISO 8601 duration"),
        ({"PAGE_SIZE": "abc"}, "TAXII_PAGE_SIZE: must be a whole number"),
        ({"SIGNING_KEY_LIFETIME": "PT1S"}, "at least one day"),
        ({"BODY_TIMEOUT": "PT0S"}, "between one second and ten minutes"),
        ({"STATUS_KEEP": "PT23H59M"}, "at least 24 hours"),
        ({"TOKEN_LIFETIME": "PT29S"}, "between 30 seconds and 24 hours"),
        ({"TOKEN_LIFETIME": "PT25H"}, "between 30 seconds and 24 hours"),
        ({"PAGE_SIZE": "10001"}, "must not exceed TAXII_PAGE_SIZE_MAX"),
        ({"PAGE_SIZE": "0"}, "TAXII_PAGE_SIZE"),
        ({"PAGE_SIZE_MAX": "100001"}, "TAXII_PAGE_SIZE_MAX"),
        ({"PAGE_BYTES": "0"}, "TAXII_PAGE_BYTES"),
        ({"MAX_CONTENT_LENGTH": "0"}, "TAXII_MAX_CONTENT_LENGTH"),
        ({"MAX_OBJECT_LENGTH": "0"}, "TAXII_MAX_OBJECT_LENGTH"),
        ({"DATABASE_CONNECTIONS": "1"}, "TAXII_DATABASE_CONNECTIONS"),
        ({"VALIDATOR_PROCESSES": "0"}, "TAXII_VALIDATOR_PROCESSES"),
        ({"CORS_ORIGINS": "*"}, "TAXII_CORS_ORIGINS: * is no origin"),
        ({"CORS_ORIGINS": "null"}, "null is no origin"),
        ({"CORS_ORIGINS": "https://a.example/"}, "without a path"),
        ({"CORS_ORIGINS": "https://a.example/console"}, "without a path"),
        ({"CORS_ORIGINS": "https://a.example, https://*.a.example"}, "https://*.a.example is no origin"),
        ({"CORS_ORIGINS": "a.example"}, "https://host"),
        ({"CORS_ORIGINS": "https://A.example"}, "in lower case"),
        ({"CORS_ORIGINS": "https://u@a.example"}, "is no origin"),
        ({"CORS_ORIGINS": "https://a.example https://b.example"}, "with commas between them"),
        ({"CORS_ORIGINS": "https://a.example:65536"}, "is no origin"),
        ({"CORS_ORIGINS": "https://a.example:443"}, "leave it out too"),
        ({"CORS_ORIGINS": "http://localhost:80"}, "leave it out too"),
        ({"CORS_ORIGINS": "http://a.example"}, "must begin with https://"),
        ({"CORS_ORIGINS": '["https://a.example"]'}, "is no origin"),
        ({"TRUSTED_PROXIES": "nginx"}, "TAXII_TRUSTED_PROXIES: nginx is no address or network"),
        ({"TRUSTED_PROXIES": "10.0.0.7/24"}, "10.0.0.7/24 is no address or network"),
        ({"TRUSTED_PROXIES": "*"}, "* is no address or network"),
        ({"TRUSTED_PROXIES": "10.0.0.7, 0.0.0.0/0"}, "0.0.0.0/0 would believe everybody"),
        ({"TRUSTED_PROXIES": "::/0"}, "would believe everybody"),
        ({"CLIENT_RATE": "fast"}, "TAXII_CLIENT_RATE: must be a number from 1 on, a slash, and second, minute or hour"),
        ({"CLIENT_RATE": "0/minute"}, "like 12000/minute; or none"),
        ({"CLIENT_CONCURRENCY": "0"}, "TAXII_CLIENT_CONCURRENCY"),
        ({"FAILED_LOGINS": "60"}, "TAXII_FAILED_LOGINS: must be a number"),
        ({"CLIENT_CERT_HEADER": "Client-Cert"}, "name them"),
        ({"CLIENT_CERT_HEADER": "X_Client_Cert", "TRUSTED_PROXIES": "10.0.0.7"}, "letters, digits and hyphens"),
        ({"CLIENT_CERT_HEADER": "", "TRUSTED_PROXIES": "10.0.0.7"}, "TAXII_CLIENT_CERT_HEADER: must be the name"),
        ({"CLIENT_CERT_HEADER": "Authorization", "TRUSTED_PROXIES": "10.0.0.7"}, "means nothing else"),
        ({"CLIENT_CERT_HEADER": "x-forwarded-for", "TRUSTED_PROXIES": "10.0.0.7"}, "means nothing else"),
        ({"TITLE": ""}, "TAXII_TITLE"),
        ({"LOG_FORMAT": "xml"}, "TAXII_LOG_FORMAT"),
        ({"METRICS_PORT": "65536"}, "TAXII_METRICS_PORT"),
    ],
)
def test_unsafe_settings_are_refused(environment: pytest.MonkeyPatch, given: dict[str, str], told: str) -> None:
    """By name, with what would be right (§4.1.1, §4.3, §8.2.2), and without a secret's value."""
    for name, value in given.items():
        environment.setenv(f"TAXII_{name}", value)

    with pytest.raises(OperatorError) as refused:
        settings.load()

    assert told in str(refused.value)
    assert given.get("SECRET_KEY", KEY) not in str(refused.value)
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["https://taxii.example.org", "https://taxii.example.org:8443/", "http://localhost:8000"]
)
def test_public_urls_that_serve_are_taken(environment: pytest.MonkeyPatch, url: str) -> None:
    """Without the slash, so that paths can follow."""
    environment.setenv("TAXII_PUBLIC_URL", url)

    assert settings.load().public_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        (" , ", ()),
        ("https://a.example", ("https://a.example",)),
        ("https://a.example, https://b.example:8443,", ("https://a.example", "https://b.example:8443")),
        ("http://localhost:3000,http://127.0.0.1:3000", ("http://localhost:3000", "http://127.0.0.1:3000")),
        ("http://[::1]:3000", ("http://[::1]:3000",)),
    ],
)
def test_exact_origins_are_taken(environment: pytest.MonkeyPatch, given: str, origins: tuple[str, ...]) -> None:
    """As browsers write them, with commas between."""
    environment.setenv("TAXII_CORS_ORIGINS", given)

    assert settings.load().cors_origins == origins


def test_replicas_are_listed_and_not_shown(environment: pytest.MonkeyPatch) -> None:
    """With commas between, each a URL of its own; hidden like the primary's."""
    environment.setenv("TAXII_SECRET_KEY", KEY)
    environment.setenv("TAXII_DATABASE_URL", URL)
    environment.setenv("TAXII_DATABASE_REPLICA_URLS", f"{URL}1, {URL}2,")

    made = settings.load()

    assert [one.get_secret_value() for one in made.database_replica_urls] == [f"{URL}1", f"{URL}2"]
    assert URL not in repr(made) + str(made)


def test_limits_can_be_set_and_lifted(environment: pytest.MonkeyPatch) -> None:
    """As a rate, or as none."""
    environment.setenv("TAXII_CLIENT_RATE", "50/second")
    environment.setenv("TAXII_FAILED_LOGINS", "none")

    assert settings.load().client_rate == Rate(50, 1)
    assert settings.load().failed_logins is None


def test_secrets_are_not_shown(environment: pytest.MonkeyPatch) -> None:
    """Neither the key nor a database's password, however the settings are printed."""
    environment.setenv("TAXII_SECRET_KEY", KEY)
    environment.setenv("TAXII_DATABASE_URL", URL)

    made = settings.load()

    assert KEY not in repr(made) + str(made)
    assert URL not in repr(made) + str(made)


def test_settings_stay_as_they_are(environment: pytest.MonkeyPatch) -> None:
    """Nothing changes them while the server runs."""
    made = settings.load()

    with pytest.raises(ValidationError):
        made.title = "another"  # type: ignore[misc] # refused, which is the point


def test_what_is_no_setting_is_named_with_what_was_meant(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the environment and in `.env`, in any case; values are not shown, and what commands read is no mistake."""
    environment.setenv("TAXII_PAGE_SZIE", "s3cret")
    environment.setenv("taxii_Titel", "ours")
    environment.setenv("TAXII_PAGE_SIZE", "10")
    environment.setenv("TAXII_TOKEN", "of a client")
    environment.setenv("OTHER", "of others")
    (tmp_path / ".env").write_text("TAXII_8000_QQQQQQQQQ=1\nTAXII_TITLE=ours\nUNRELATED=1\n")

    assert settings.unknown() == [
        "TAXII_8000_QQQQQQQQQ",
        "TAXII_PAGE_SZIE: did you mean 'TAXII_PAGE_SIZE'?",
        "TAXII_TITEL: did you mean 'TAXII_TITLE'?",
    ]
    assert settings.load().page_size == 10
