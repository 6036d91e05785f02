"""Everything this server refuses, in its own language.

No class here knows a status number: `web.errors` maps the classes to HTTP once, the CLI maps them to exit codes.

    TaxiiServerError
    ├── BadParameter            a malformed query parameter (§3.4)
    │   └── BadCursor           a `next` that this server can't continue from (§3.5)
    ├── BadBody                 the body can't be read at all
    │   ├── BadReason           a recall's reason can't be used
    │   ├── NotAnEnvelope       it is JSON, but not an envelope with objects (§3.7)
    │   ├── BodyTooLarge        more octets than `max_content_length` (§4.2.1)
    │   ├── InflatedTooLarge    a gzip body that unpacks to more than `max_content_length`
    │   └── BodyTooSlow         the sender stopped sending
    ├── NotAcceptable           no media type we can answer with (§3.1)
    ├── UnsupportedMedia        a body in a media type or coding we don't read (§3.1)
    ├── NotAuthenticated        no credentials, or none that hold now
    ├── NotAllowed              visible, but the right is missing
    ├── NotFound                absent, or hidden from this caller: the two never differ
    ├── MethodNotAllowed        the path exists, the method doesn't
    ├── TooManyRequests         this client, or this address, has to wait
    ├── OAuthError              a refusal in the words of RFC 6749 §5.2
    ├── Unavailable             can't be served now; the same request may succeed later
    │   ├── DatabaseGone        Postgres can't be reached or is not accepting work
    │   ├── IssuerUnavailable   the keys of an outside issuer can't be had
    │   ├── LedgerUnavailable   what is sent can't be recorded, so it isn't sent
    │   ├── ClockAhead          a collection's clock is ahead of the database's time
    │   └── ValidatorsGone      the validating processes died
    └── OperatorError           something the operator can mend; the message says how
        └── AllianceInvalid     alliance.yaml asks for something that makes no sense
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


class TaxiiServerError(Exception):
    """Base of all refusals. `title` names the kind, the message tells this occurrence, for the caller's eyes."""

    title = "Request refused"
    code = "refused"

    def __init__(self, message: str | None = None, *, details: Mapping[str, object] | None = None) -> None:
        """Take what to tell the caller; `details` is machine-readable and never holds a secret or a body."""
        self.message = message
        self.details = details
        super().__init__(message or self.title)


class BadParameter(TaxiiServerError):
    """A query parameter is malformed (§3.4)."""

    title = "Invalid query parameter"
    code = "bad-parameter"

    def __init__(self, parameter: str, message: str) -> None:
        """Name the parameter and what is wrong with it."""
        super().__init__(message, details={"parameter": parameter})


class BadCursor(BadParameter):
    """The value of `next` is not one this server can continue from."""

    title = "Invalid next"
    code = "bad-next"

    def __init__(self, message: str = "this value of next was not issued by this server for this request") -> None:
        """Say what about the cursor doesn't fit."""
        super().__init__("next", message)


class BadBody(TaxiiServerError):
    """The body can't be read: not JSON, not UTF-8, cut short."""

    title = "Unreadable body"
    code = "bad-body"


class NotAnEnvelope(BadBody):
    """The body is JSON but not an envelope that holds objects (§3.7, §5.5)."""

    title = "Not an envelope"
    code = "not-an-envelope"


class BadReason(BadBody):
    """The body is JSON, but not an object with a reason that can be passed on."""

    title = "Unusable reason"
    code = "bad-reason"


class BodyTooLarge(BadBody):
    """The body has more octets than the API Root's `max_content_length` (§4.2.1)."""

    title = "Body too large"
    code = "body-too-large"


class InflatedTooLarge(BadBody):
    """The body unpacks to more octets than `max_content_length`."""

    title = "Unpacked body too large"
    code = "inflated-too-large"


class BodyTooSlow(BadBody):
    """Nothing more of the body arrived in time, or all of it too slowly."""

    title = "Body not received in time"
    code = "body-timeout"


class NotAcceptable(TaxiiServerError):
    """The Accept header names nothing this server can answer with."""

    title = "Not acceptable"
    code = "not-acceptable"


class UnsupportedMedia(TaxiiServerError):
    """The body's media type or content coding is not one this server reads."""

    title = "Unsupported media type"
    code = "unsupported-media-type"


class NotAuthenticated(TaxiiServerError):
    """No credentials, or none that hold. What exactly was wrong stays in the log: `reason` is never sent.

    `client` is the known one whose id was shown, if it is one, and `at` the database's time.
    """

    title = "Authentication required"
    code = "not-authenticated"

    def __init__(self, reason: str, *, client: int | None = None, at: datetime | None = None) -> None:
        """Keep `reason` for the log; every caller is told the same."""
        self.reason = reason
        self.client = client
        self.at = at
        super().__init__("No credentials were given, or they are unknown, wrong, expired, revoked or suspended.")


class NotAllowed(TaxiiServerError):
    """The caller can see the thing but lacks the right."""

    title = "Not allowed"
    code = "not-allowed"


class NotFound(TaxiiServerError):
    """Absent or hidden: both are told in the same words, so it takes none."""

    title = "Not found"
    code = "not-found"

    def __init__(self) -> None:
        """Build the one answer there is."""
        super().__init__("There is nothing here, or nothing that you may see.")


class MethodNotAllowed(TaxiiServerError):
    """The path exists, the method doesn't."""

    title = "Method not allowed"
    code = "method-not-allowed"


class TooManyRequests(TaxiiServerError):
    """More than a limit allows; `retry_after` is in whole seconds. It depends on who asks, never on what is asked for."""

    title = "Too many requests"
    code = "too-many-requests"

    def __init__(self, message: str, *, retry_after: int) -> None:
        """Say what there was too much of, and when to come back."""
        self.retry_after = max(1, retry_after)
        super().__init__(message)


class OAuthError(TaxiiServerError):
    """A refusal of the token endpoint; `code` is one of RFC 6749 §5.2."""

    title = "OAuth error"

    def __init__(self, code: str, message: str) -> None:
        """Take the RFC's code and a sentence for `error_description`."""
        self.code = code
        super().__init__(message)


class Unavailable(TaxiiServerError):
    """Can't be served now; `retry_after` is in seconds."""

    title = "Temporarily unavailable"
    code = "unavailable"
    retry_after = 5


class DatabaseGone(Unavailable):
    """Postgres can't be reached or refuses work."""

    code = "database-unavailable"


class IssuerUnavailable(Unavailable):
    """Whether a token holds can't be told, because its issuer's keys can't be had: no fault of its bearer."""

    code = "issuer-unavailable"
    retry_after = 30

    def __init__(self) -> None:
        """Say it in the same words to everyone."""
        super().__init__("The issuer of this token can't be reached at the moment. Send the request again later.")


class LedgerUnavailable(Unavailable):
    """That a page is sent can't be recorded, so it isn't sent."""

    code = "ledger-unavailable"

    def __init__(self, message: str | None = None) -> None:
        """Say it in the same words to everyone."""
        super().__init__(
            message
            or "What is sent is recorded first, and that can't be done at the moment. Send the request again later."
        )


class ClockAhead(Unavailable):
    """The collection's last date lies ahead of the database's time: an operator has to look."""

    code = "clock-ahead"
    retry_after = 60


class ValidatorsGone(Unavailable):
    """The validating processes died; they are being started again."""

    code = "validators-unavailable"
    retry_after = 2


class OperatorError(TaxiiServerError):
    """Something the operator can mend; the message says what to do."""

    title = "Can't do that"
    code = "operator-error"


class AllianceInvalid(OperatorError):
    """alliance.yaml asks for something that makes no sense; one line a problem, each with file and line."""

    title = "The alliance file is not valid"
    code = "alliance-invalid"

    def __init__(self, problems: Sequence[str]) -> None:
        """Take the problems, each `file:line: what is wrong and what would be right`."""
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))
