"""What clients and resource servers can read about the token endpoint: metadata (RFC 8414) and keys (RFC 7517)."""

import httpx
import pytest
from jose import jwt

from tests.auth.alliance import Alliance
from tests.auth.forge import ISSUER

pytestmark = pytest.mark.anyio


async def test_metadata(http: httpx.AsyncClient) -> None:
    answer = await http.get("/.well-known/oauth-authorization-server")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "issuer": ISSUER,
        "token_endpoint": f"{ISSUER}/oauth2/token",
        "revocation_endpoint": f"{ISSUER}/oauth2/revoke",
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "service_documentation": f"{ISSUER}/docs",
        "scopes_supported": ["taxii:read", "taxii:write"],
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
    }


async def test_keys_are_cacheable_and_public(http: httpx.AsyncClient, alliance: Alliance) -> None:
    client = alliance.client("north")
    await _token(http, client.client_id, client.secret)

    answer = await http.get("/.well-known/jwks.json")

    assert answer.headers["cache-control"] == "public, max-age=300"
    [key] = answer.json()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    assert "d" not in key


async def test_before_the_first_token_there_may_be_no_key(http: httpx.AsyncClient, alliance: Alliance) -> None:
    assert (await http.get("/.well-known/jwks.json")).json() == {"keys": []}


async def test_any_library_can_verify_a_token_with_the_published_keys(
    http: httpx.AsyncClient, alliance: Alliance
) -> None:
    """And the token is what RFC 9068 asks for."""
    client = alliance.client("north")
    token = await _token(http, client.client_id, client.secret)
    keys = (await http.get("/.well-known/jwks.json")).json()

    claims = jwt.decode(token, keys, algorithms=["ES256"], audience=ISSUER, issuer=ISSUER)
    header = jwt.get_unverified_header(token)

    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": keys["keys"][0]["kid"]}
    assert claims.keys() == {"iss", "sub", "client_id", "aud", "iat", "exp", "jti", "scope"}
    assert claims["sub"] == claims["client_id"] == client.client_id
    assert claims["exp"] - claims["iat"] == 900


async def _token(http: httpx.AsyncClient, client_id: str, secret: str) -> str:
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    token = (await http.post("/oauth2/token", data=form)).json()["access_token"]
    assert isinstance(token, str)
    return token
