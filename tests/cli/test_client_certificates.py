"""`client certificate`, `client require` and `client issue --certificate`: who shows which certificate, told and kept."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.auth.certified import certificate, thumbprint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

pytestmark = pytest.mark.usefixtures("alliance")


def written(folder: Path, name: str, **how: Any) -> tuple[str, str]:
    """Write a certificate to a file; give its path and its thumbprint."""
    made = certificate(name, **how)
    file = folder / f"{name}.pem"
    file.write_bytes(made.public_bytes(Encoding.PEM))
    return str(file), thumbprint(made).hex()


def issued(run: Run, *options: str, name: str = "siem") -> Any:
    return run("client", "issue", "north-bank", "--name", name, *options, "--json").json


def stands(run: Run, client_id: str) -> tuple[str, int, int]:
    """Say what a client must show, and how many secrets and certificates of its hold."""
    (one,) = [one for one in run("client", "list", "--json").json if one["client_id"] == client_id]
    return one["authentication"], one["secrets"], one["certificates"]


def written_down(environment: dict[str, str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Read the acts on a member's clients, oldest first."""
    with psycopg.connect(environment["TAXII_MIGRATION_DATABASE_URL"].replace("+psycopg", "")) as connection:
        rows = connection.execute(
            "SELECT act, who, details::jsonb FROM audit_events WHERE stream = 'member:north-bank' ORDER BY seq"
        )
        return rows.fetchall()


def test_a_client_is_issued_with_a_certificate_and_no_secret(run: Run, tmp_path: Path) -> None:
    """The certificate alone is what it shows; the line that is printed says how."""
    file, its = written(tmp_path, "siem")
    told = run("client", "issue", "north-bank", "--name", "siem", "--certificate", file)
    (client,) = run("client", "list", "--json").json

    assert told.code == 0
    assert its in told.out
    assert "txs_" not in told.out
    assert "curl --cert client.pem --key client.key -H" in told.out
    assert "TAXII_CLIENT_CERT_HEADER is not set" in told.err
    assert stands(run, client["client_id"]) == ("certificate", 0, 1)


def test_or_with_several_and_a_secret(run: Run, tmp_path: Path) -> None:
    """With --and-secret it must show both; JSON has the thumbprints."""
    (old, first), (new, second) = (written(tmp_path, name) for name in ("old", "new"))
    both = issued(run, "--certificate", old, "--certificate", new, "--and-secret")
    alone = issued(run, "--certificate", written(tmp_path, "tool")[0], name="tool")

    assert both["thumbprints"] == [first, second]
    assert both["client_secret"].startswith("txs_")
    assert stands(run, both["client_id"]) == ("both", 1, 2)
    assert alone["client_secret"] is None


def test_options_that_contradict_each_other_are_refused(run: Run, tmp_path: Path) -> None:
    file, _ = written(tmp_path, "siem")
    issue = ("client", "issue", "north-bank", "--name", "siem")

    assert run(*issue, "--and-secret").code == 2
    assert run(*issue, "--certificate", file, "--issuer", "bank", "--subject", "siem-1").code == 2
    assert run("client", "list", "--json").json == []


def test_certificates_are_added_listed_and_removed(run: Run, tmp_path: Path) -> None:
    """By thumbprint, as openssl prints it too, or by the file."""
    client_id = issued(run)["client_id"]
    (old, first), (new, second) = (written(tmp_path, name) for name in ("old", "new"))
    add = ("client", "certificate", "add", client_id)
    remove = ("client", "certificate", "remove", client_id)

    assert run("client", "certificate", "list").out.startswith("There are no certificates")
    assert run(*add, old, "--json").json == {"client_id": client_id, "thumbprint": first, "changed": True}
    assert run(*add, old, "--json").json["changed"] is False
    assert run(*add, old).out == f"{client_id} had the certificate {first} already.\n"
    assert run(*add, new).out == f"{client_id} has the certificate {second}.\n"
    listed = run("client", "certificate", "list", client_id, "--json").json
    assert [one["thumbprint"] for one in listed] == [first, second]
    assert {(one["client_id"], one["state"]) for one in listed} == {(client_id, "live")}
    assert listed[0]["subject"] == "CN=old"
    assert second in run("client", "certificate", "list").out
    assert run("client", "certificate", "list", f"{client_id}0").code == 1

    colons = ":".join(first[at : at + 2] for at in range(0, 64, 2)).upper()
    assert run(*remove, colons, "--json").json == {"client_id": client_id, "thumbprint": first, "certificates": 1}
    gone = run(*remove, new)
    assert (gone.code, gone.err) == (0, "")
    assert run(*remove, new).code == 1
    assert run(*remove, str(tmp_path / "nowhere")).code == 1
    assert run("client", "certificate", "list", "--json").json == []


def test_the_last_one_goes_with_a_warning(run: Run, tmp_path: Path) -> None:
    """A stolen key must be refused at once, so nothing stands in the way; but the client is shut out, and that is said."""
    file, _ = written(tmp_path, "siem")
    client_id = issued(run, "--certificate", file)["client_id"]

    gone = run("client", "certificate", "remove", client_id, file)

    assert gone.code == 0
    assert f"{client_id} must show a certificate and has none" in gone.err
    assert stands(run, client_id) == ("certificate", 0, 0)


def test_an_expired_one_is_listed_as_such_and_removed_by_its_file(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    file, _ = written(tmp_path, "siem")
    client_id = issued(run, "--certificate", file)["client_id"]
    with psycopg.connect(environment["TAXII_MIGRATION_DATABASE_URL"].replace("+psycopg", "")) as connection:
        connection.execute("UPDATE client_certificates SET not_after = now() - interval '1 day'")
    (listed,) = run("client", "certificate", "list", "--json").json
    late, its = written(tmp_path, "late", since=timedelta(days=-9), until=timedelta(days=-1))

    assert listed["state"] == "expired"
    assert stands(run, client_id) == ("certificate", 0, 0)
    refused = run("client", "certificate", "remove", client_id, late)
    assert (refused.code, its in refused.err) == (1, True)
    assert run("client", "certificate", "remove", client_id, file).code == 0


@pytest.mark.slow
def test_one_that_does_not_hold_yet_lets_nobody_in(run: Run, tmp_path: Path) -> None:
    """It is told from when on it does, and nothing ends for its sake before: the client would be shut out."""
    file, its = written(tmp_path, "next", since=timedelta(days=2))
    client_id = issued(run)["client_id"]

    added = run("client", "certificate", "add", client_id, file)
    other, _ = written(tmp_path, "other", since=timedelta(days=2))
    alone = run("client", "issue", "north-bank", "--name", "tool", "--certificate", other)
    listed = run("client", "certificate", "list", client_id, "--json").json

    for told in (added, alone):
        assert (told.code, "this certificate holds from " in told.err) == (0, True)
    assert [(one["thumbprint"], one["state"]) for one in listed] == [(its, "not yet valid")]
    assert stands(run, client_id) == ("any", 1, 0)
    for must in ("certificate", "both"):
        refused = run("client", "require", client_id, must)
        assert (refused.code, "has no certificate that holds" in refused.err) == (1, True)
    assert stands(run, client_id) == ("any", 1, 0)


@pytest.mark.slow
def test_the_last_one_that_holds_goes_with_a_warning_though_another_will(run: Run, tmp_path: Path) -> None:
    file, _ = written(tmp_path, "siem")
    later, _ = written(tmp_path, "next", since=timedelta(days=2))
    client_id = issued(run, "--certificate", file, "--certificate", later)["client_id"]

    gone = run("client", "certificate", "remove", client_id, file)

    assert (gone.code, "must show a certificate and has none that holds" in gone.err) == (0, True)


@pytest.mark.slow
def test_it_is_told_when_the_last_one_ends(run: Run, tmp_path: Path) -> None:
    """In the list of clients: of those that overlap the one that ends last."""
    plain = issued(run, name="plain")["client_id"]
    files = [written(tmp_path, f"n{days}", until=timedelta(days=days))[0] for days in (20, 300)]
    client_id = issued(run, "--certificate", files[1], "--certificate", files[0])["client_id"]
    ends = max(one["not_after"] for one in run("client", "certificate", "list", "--json").json)
    listed = {one["client_id"]: one["certified_until"] for one in run("client", "list", "--json").json}

    assert listed == {plain: None, client_id: ends}
    assert ends[:10] in run("client", "list").out


@pytest.mark.slow
def test_what_no_client_would_get_any_more_is_removed_by_its_file(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    """It was added before the rules were what they are; and what is no file is told as such, however long."""
    file, its = written(tmp_path, "small", key=rsa.generate_private_key(65537, 1024))  # noqa: S505 - what is refused
    own, _ = written(tmp_path, "siem")
    client_id = issued(run, "--certificate", own)["client_id"]
    with psycopg.connect(environment["TAXII_MIGRATION_DATABASE_URL"].replace("+psycopg", "")) as connection:
        connection.execute("UPDATE client_certificates SET thumbprint = %s", (bytes.fromhex(its),))

    for wrong in ("A" * 5000, "A" * 43, str(tmp_path)):
        refused = run("client", "certificate", "remove", client_id, wrong)
        assert (refused.code, refused.out) == (1, "")
    assert run("client", "certificate", "remove", client_id, file, "--json").json["thumbprint"] == its


def test_a_certificate_is_one_client_s(run: Run, tmp_path: Path) -> None:
    """It says of a request whose it is; issuing another client with it leaves no client behind."""
    file, _ = written(tmp_path, "siem")
    owner = issued(run, "--certificate", file)["client_id"]
    other = issued(run, name="tool")["client_id"]

    for refused in (
        run("client", "certificate", "add", other, file),
        run("client", "issue", "harbour-bank", "--name", "siem", "--certificate", file),
        run("client", "issue", "north-bank", "--name", "third", "--certificate", file),
    ):
        assert (refused.code, refused.out) == (1, "")
        assert f"{owner}'s" in refused.err
    assert len(run("client", "list", "--json").json) == 2


@pytest.mark.slow
def test_a_client_that_has_ended_gets_none(run: Run, tmp_path: Path) -> None:
    """And what it had is free for its successor."""
    file, _ = written(tmp_path, "siem")
    client_id = issued(run, "--certificate", file)["client_id"]
    run("client", "revoke", client_id)

    assert "revoked, for good" in run("client", "certificate", "add", client_id, written(tmp_path, "new")[0]).err
    assert run("client", "require", client_id, "any").code == 1
    assert run("client", "certificate", "add", "north-bank.nobody.0", file).code == 1
    assert run("client", "certificate", "remove", "north-bank.nobody.0", file).code == 1
    assert run("client", "require", "north-bank.nobody.0", "any").code == 1
    assert run("client", "certificate", "remove", client_id, file).code == 1
    assert stands(run, issued(run, "--certificate", file)["client_id"]) == ("certificate", 0, 1)


@pytest.mark.slow
def test_sixteen_are_enough(run: Run, tmp_path: Path) -> None:
    client_id = issued(run)["client_id"]
    key = ec.generate_private_key(ec.SECP256R1())
    for number in range(16):
        assert run("client", "certificate", "add", client_id, written(tmp_path, f"n{number}", key=key)[0]).code == 0

    refused = run("client", "certificate", "add", client_id, written(tmp_path, "n16", key=key)[0])

    assert (refused.code, "has 16 certificates" in refused.err) == (1, True)
    assert run("client", "certificate", "add", client_id, str(tmp_path / "n3.pem"), "--json").json["changed"] is False


def test_what_must_be_shown_is_set_and_told(run: Run, tmp_path: Path) -> None:
    """A client keeps nothing that it must not use: with `certificate` its secrets end, and `any` revives none."""
    client_id = issued(run)["client_id"]
    require = ("client", "require", client_id)

    for lacking in ("certificate", "both"):
        refused = run(*require, lacking)
        assert (refused.code, "has no certificate that holds" in refused.err) == (1, True)
    run("client", "certificate", "add", client_id, written(tmp_path, "siem")[0])
    assert stands(run, client_id) == ("any", 1, 1)
    assert run(*require, "both").out == f"{client_id} must show a certificate and its secret.\n"
    assert stands(run, client_id) == ("both", 1, 1)
    assert run(*require, "certificate", "--json").json == {
        "client_id": client_id,
        "authentication": "certificate",
        "changed": True,
    }
    assert stands(run, client_id) == ("certificate", 0, 1)
    assert run(*require, "certificate", "--json").json["changed"] is False
    assert "has no secret" in run("client", "rotate", client_id).err
    assert "has no secret" in run(*require, "both").err
    assert run(*require, "any").code == 0
    assert stands(run, client_id) == ("any", 0, 1)
    assert run("client", "rotate", client_id).code == 0
    assert run(*require, "both").code == 0
    assert run(*require, "nothing").code == 2


def test_a_file_that_no_client_should_show_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    """What is wrong with it is said, and nothing changes."""
    client_id = issued(run)["client_id"]
    key = ec.generate_private_key(ec.SECP256R1())
    secret = tmp_path / "key.pem"
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - what is refused
    junk = tmp_path / "junk.pem"
    junk.write_bytes(os.urandom(64))
    chain = tmp_path / "chain.pem"
    chain.write_bytes(2 * certificate().public_bytes(Encoding.PEM))
    uses: list[x509.ObjectIdentifier] = [ExtendedKeyUsageOID.SERVER_AUTH]
    late = written(tmp_path, "late", since=timedelta(days=-9), until=timedelta(days=-1))[0]

    for file, reason in (
        (str(secret), "private key"),
        (written(tmp_path, "small", key=small)[0], "1024 bits"),
        (written(tmp_path, "server", uses=uses)[0], "clientAuth"),
        (late, "expired"),
        (str(chain), "several certificates"),
        (str(junk), "no certificate"),
        (str(tmp_path / "missing.pem"), "can't be read"),
        (str(tmp_path), "can't be read"),
        ("/dev/zero", "larger than any"),
    ):
        refused = run("client", "certificate", "add", client_id, file)
        assert (refused.code, refused.out) == (1, "")
        assert file in refused.err
        assert reason in refused.err
    assert stands(run, client_id) == ("any", 1, 0)


@pytest.mark.slow
def test_every_act_is_written_down_where_its_member_s_are(
    run: Run, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Each with what it changed; what changed nothing, or was refused, isn't told."""
    (old, first), (new, second) = (written(tmp_path, name) for name in ("old", "new"))
    client_id = issued(run, "--certificate", old)["client_id"]
    run("client", "certificate", "add", client_id, new)
    run("client", "certificate", "add", client_id, new)
    run("client", "certificate", "remove", client_id, first)
    run("client", "certificate", "remove", client_id, first)
    run("client", "require", client_id, "any")
    run("client", "require", client_id, "any")
    run("client", "require", client_id, "both")

    acts = written_down(environment)

    assert {who for _, who, _ in acts} == {"operator"}
    assert {told["client"] for _, _, told in acts} == {client_id}
    assert [(act, told.get("thumbprint"), told.get("must_show")) for act, _, told in acts] == [
        ("client_issued", None, "certificate"),
        ("certificate_added", first, None),
        ("certificate_added", second, None),
        ("certificate_removed", first, None),
        ("client_changed", None, "any"),
    ]
    assert run("audit", "verify").code == 0
