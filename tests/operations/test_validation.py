"""Judging the objects of an envelope: one verdict each, and pollers that don't notice."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from taxii_server.domain.access import Validation
from taxii_server.domain.errors import BadBody, ValidatorsGone
from taxii_server.domain.stix_objects import Form
from taxii_server.operations import validation
from taxii_server.operations.envelopes import cut
from taxii_server.operations.validation import Accepted, Rejected, Validators
from tests import factories
from tests.cli.processes import alive
from tests.factories import Stix, as_json, envelope, stix_id

pytestmark = pytest.mark.anyio

MAX_OBJECT_LENGTH: Final = 200_000
BOTH: Final = pytest.mark.parametrize("how", list(Validation))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def validators(anyio_backend: str) -> AsyncIterator[Validators]:
    pool = Validators(1, max_object_length=MAX_OBJECT_LENGTH)
    await pool.warm()
    yield pool
    pool.close()


async def verdict(pool: Validators, found: Stix | bytes, how: Validation = Validation.STRICT) -> Accepted | Rejected:
    octets = found if isinstance(found, bytes) else as_json(found)
    (judged,) = await pool.judge([octets], how)
    return judged


async def refusal(pool: Validators, found: Stix | bytes, how: Validation = Validation.STRICT) -> str:
    judged = await verdict(pool, found, how)
    assert isinstance(judged, Rejected)
    return judged.message


def doubtful(**over: Any) -> Stix:
    """An object that no glance is enough for: the processes judge it."""
    return factories.malware(granular_markings=[{"lang": "en", "selectors": ["name"]}], **over)


def processes_of(pool: Validators) -> list[int]:
    executor = pool._pool
    assert executor is not None
    return list(executor._processes)


# Judging


@BOTH
async def test_each_object_has_its_verdict_in_order(validators: Validators, how: Validation) -> None:
    """T-ADD-06: one bad object never sinks the envelope; verdicts come in the order of the objects."""
    good = [as_json(factories.malware(id=stix_id("malware", number))) for number in range(150)]
    slices = [*good[:70], b"{}", *good[70:], b"[]"]
    verdicts = await validators.judge(slices, how)
    assert [each.body if isinstance(each, Accepted) else each.message for each in verdicts] == [
        *good[:70],
        "required property type is missing",
        *good[70:],
        "is not a JSON object",
    ]


async def test_an_accepted_object_has_its_columns(validators: Validators) -> None:
    """What is stored beside the text: id, type, form, version, TLP level, digest."""
    marked = factories.indicator_2_0(object_marking_refs=[factories.TLP1["amber"]])
    judged = await verdict(validators, marked)
    assert isinstance(judged, Accepted)
    columns = judged.columns
    assert (columns.stix_id, columns.stix_type, columns.form) == (marked["id"], "indicator", Form.STIX_2_0)
    assert (columns.version, columns.level) == (marked["modified"], 2)
    again = await verdict(validators, json.dumps(dict(reversed(marked.items())), indent=2).encode())
    assert isinstance(again, Accepted)
    assert again.columns.digest == columns.digest


BAD: Final = {
    "is not a JSON object": b"1",
    "nested more than 100 levels deep": as_json({**factories.malware(), "x_deep": json.loads("[" * 100 + "]" * 100)}),
    "property name occurs twice in one JSON object": as_json(factories.malware())[:-1] + b', "name": "x"}',
    "property a occurs twice in one JSON object": as_json(factories.malware())[:-1] + b', "x_x": [{"a": 1, "\\u0061": 2}]}',
    "holds the character NUL (\\u0000)": as_json(factories.malware(name="a\0b")),
    "integer 9007199254740992 is beyond ±(2^53 - 1)": as_json(factories.malware(x_count=2**53)),
    "id is not a STIX identifier: malware--, then a UUID": as_json(factories.malware(id="malware--1")),
    "id begins with indicator, but type is malware": as_json(factories.malware(id=stix_id("indicator"))),
    "modified must be a UTC timestamp like 2024-05-02T08:15:30.000Z": as_json(factories.malware(modified="yesterday")),
    "created no such date or time of day": as_json(factories.malware(created="2024-02-30T00:00:00Z")),
    "modified has more than six fractional digits, which this server can't keep apart": as_json(
        factories.malware(modified="2024-05-02T08:15:30.1234567Z")
    ),
    "spec_version must be one of 2.0, 2.1": as_json(factories.malware(spec_version="2.2")),
    "a bundle can't be stored: send its objects, or send the bundle itself as the envelope": b'{"type": "bundle"}',
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("said", BAD)
async def test_bad_objects_are_told_what_to_mend(validators: Validators, how: Validation, said: str) -> None:
    """The bad inputs that are one object's failure, in either validation."""
    assert await refusal(validators, BAD[said], how) == said


@BOTH
async def test_nesting_is_allowed_up_to_its_bound(validators: Validators, how: Validation) -> None:
    """A hundred levels are taken, the object being the first; hundreds more are that object's failure alone."""
    deep = as_json(factories.malware())[:-1] + b', "x_deep": ' + b"[" * 99 + b"]" * 99 + b"}"
    assert isinstance(await verdict(validators, deep, how), Accepted)
    for levels in (100, 400, 100_000):
        deep = as_json(factories.malware())[:-1] + b', "x_deep": ' + b"[" * levels + b'"\\u0000"' + b"]" * levels + b"}"
        if len(deep) <= MAX_OBJECT_LENGTH:
            assert await refusal(validators, deep, how) == "nested more than 100 levels deep"


@BOTH
async def test_an_object_too_large_is_refused_unread(validators: Validators, how: Validation) -> None:
    """`max_object_length` is a per-object failure; the objects around it are taken."""
    slices = [as_json(each) for each in (factories.malware(), factories.malware(x_x="x" * MAX_OBJECT_LENGTH))]
    first, second, third = await validators.judge([slices[0], slices[1], slices[0]], how)
    assert isinstance(first, Accepted)
    assert isinstance(third, Accepted)
    assert second == Rejected(
        None, None, f"is larger than this server takes: {len(slices[1])} octets, at most {MAX_OBJECT_LENGTH}"
    )


@BOTH
@pytest.mark.parametrize("octets", [b'{"a": "\\ud800"}', b'{"\\udc00": 1}', b"{", b'{"a": 01}', b"", b"\xff"])
async def test_a_slice_that_is_no_json_sinks_the_body(validators: Validators, how: Validation, octets: bytes) -> None:
    """Lone surrogates can't be written as UTF-8: by RFC 7493 the body is no JSON, and is refused whole."""
    with pytest.raises(BadBody, match=r"^objects\[1\] is not JSON"):
        await validators.judge([as_json(factories.malware()), octets], how)


async def test_a_refused_object_is_named_as_far_as_it_can_be(validators: Validators) -> None:
    """The status tells the sender which object and which version was refused, in text that Postgres can hold."""
    judged = await verdict(validators, factories.malware(id="malware--\0", labels=["\0"]))
    assert judged == Rejected("malware--�", factories.WHEN, "holds the character NUL (\\u0000)")
    assert await verdict(validators, b'{"\\u0000": 1, "\\u0000": 2}') == Rejected(
        None, None, "property � occurs twice in one JSON object"
    )


async def test_structural_asks_only_what_the_server_needs(validators: Validators) -> None:
    """What strict refuses, structural takes as long as it can be ordered and found again."""
    odd = factories.indicator(pattern="no pattern", labels=[], x=None, confidence="high")
    assert isinstance(await verdict(validators, odd, Validation.STRUCTURAL), Accepted)
    assert "must not be an empty list" in await refusal(validators, odd)


@BOTH
async def test_many_equal_names_cost_time_in_proportion(validators: Validators, how: Validation) -> None:
    """Looking for a property that occurs twice among tens of thousands is no work."""
    names = b", ".join(b'"x_%d": 1' % number for number in range(9000))
    began = time.perf_counter()
    said = await refusal(validators, b"{" + names + b', "y": 1, "y": 2}', how)
    assert said == "property y occurs twice in one JSON object"
    assert time.perf_counter() - began < 5


# What it costs the others


async def test_a_big_push_does_not_stall_the_event_loop() -> None:
    """A big push must not stall the pollers: while two thousand objects are judged the loop stays free."""
    body = envelope(*[doubtful(id=stix_id("malware", number)) for number in range(2000)])
    pool = Validators(1, max_object_length=MAX_OBJECT_LENGTH)
    await pool.warm()
    lags: list[float] = []

    async def poll() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            lags.append(time.perf_counter() - began - 0.002)

    poller = asyncio.create_task(poll())
    try:
        verdicts = await pool.judge(cut(body), Validation.STRICT)
    finally:
        poller.cancel()
        pool.close()
    assert all(isinstance(each, Accepted) for each in verdicts)
    lags.sort()
    assert lags[int(len(lags) * 0.95)] < 0.05, f"{len(lags)} polls, slowest {lags[-1]:.3f} s"


@pytest.mark.slow
async def test_a_small_push_is_not_kept_waiting_by_a_big_one(validators: Validators) -> None:
    """Chunks of all pushes take turns: one object is judged long before the two thousand that came first."""
    big = [as_json(doubtful())] * 2000
    first = asyncio.create_task(validators.judge(big, Validation.STRICT))
    await asyncio.sleep(0.05)
    await verdict(validators, doubtful())
    assert not first.done()
    assert len(await first) == len(big)


async def test_an_object_that_takes_too_long_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern whose cost grows with the square of its length is interrupted; the objects around it are judged."""
    pool = Validators(1, max_object_length=MAX_OBJECT_LENGTH, seconds_an_object=0.3)
    slow, plain = as_json(factories.indicator(pattern="['" + "\\'" * 20_000)), as_json(doubtful())
    refused = Rejected(
        stix_id("indicator"),
        factories.WHEN,
        "takes more than 0.3 seconds to check: simplify it (its pattern, if any)",
    )
    try:
        first, second, third = await pool.judge([plain, slow, plain], Validation.STRICT)
        assert isinstance(first, Accepted)
        assert second == refused
        assert isinstance(third, Accepted)
        monkeypatch.setattr(validation, "MOST_SECONDS_A_PUSH", 0.5)
        *some, last = await pool.judge([slow] * 3 + [plain] * 300, Validation.STRICT)
        assert some[0] == refused
        assert isinstance(last, Rejected)
        assert last.message.startswith("was not checked")
    finally:
        pool.close()


# Processes that die


async def test_when_a_process_dies_the_next_request_finds_new_ones() -> None:
    """A broken pool is 503 for the requests in it, whoever else has given up, and none for those that follow."""
    pool = Validators(2, max_object_length=MAX_OBJECT_LENGTH)
    await pool.warm()
    try:
        before = processes_of(pool)
        pushes = [asyncio.create_task(pool.judge([as_json(doubtful())] * 3000, Validation.STRICT)) for _ in range(4)]
        await asyncio.sleep(0.1)
        given_up = pushes.pop()
        given_up.cancel()
        os.kill(before[0], signal.SIGKILL)
        for outcome in await asyncio.gather(*pushes, return_exceptions=True):
            assert isinstance(outcome, ValidatorsGone)
        assert isinstance(await verdict(pool, doubtful()), Accepted)
        assert not set(before) & set(processes_of(pool))
    finally:
        pool.close()


@pytest.mark.slow
async def test_an_idle_process_that_dies_is_replaced() -> None:
    """It is noticed when nothing is asked of it, or by the next request at the latest."""
    pool = Validators(1, max_object_length=MAX_OBJECT_LENGTH)
    await pool.warm()
    try:
        os.kill(processes_of(pool)[0], signal.SIGKILL)
        await asyncio.sleep(0.5)
        with pytest.raises(ValidatorsGone):
            await verdict(pool, doubtful())
        assert isinstance(await verdict(pool, doubtful()), Accepted)
    finally:
        pool.close()


async def test_a_request_that_is_given_up_leaves_the_pool_usable(validators: Validators) -> None:
    """A push whose client went away stops taking turns."""
    big = asyncio.create_task(validators.judge([as_json(doubtful())] * 5000, Validation.STRICT))
    await asyncio.sleep(0.05)
    big.cancel()
    with pytest.raises(asyncio.CancelledError):
        await big
    async with asyncio.timeout(5):
        assert isinstance(await verdict(validators, doubtful()), Accepted)


@pytest.mark.parametrize("one", [doubtful(), factories.malware()], ids=["to be judged", "certain"])
async def test_a_closed_pool_takes_no_work(one: Stix) -> None:
    """While the server shuts down, a push is told to come again."""
    pool = Validators(1, max_object_length=MAX_OBJECT_LENGTH)
    await pool.warm()
    processes = processes_of(pool)
    pool.close()
    assert not any(map(alive, processes))
    with pytest.raises(ValidatorsGone):
        await verdict(pool, one)


PARENT: Final = """
import asyncio
from taxii_server.operations.validation import Validators

async def main():
    pool = Validators(2, max_object_length=1000)
    await pool.warm()
    print(*pool._pool._processes, flush=True)
    await asyncio.sleep(60)

print("started", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM])
async def test_the_children_die_with_their_parent(tmp_path: Path, death: signal.Signals) -> None:
    """However the parent ends, kill -9 included, no process stays behind; and none runs the parent's program anew."""
    script = tmp_path / "program.py"
    script.write_text(PARENT)
    parent = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        assert await parent.stdout.readline() == b"started\n"
        children = [int(each) for each in (await parent.stdout.readline()).split()]
        assert len(children) == 2
        assert all(map(alive, children))
        parent.send_signal(death)
        await parent.wait()
        for child in children:
            while alive(child):  # noqa: ASYNC110 - nothing tells a stranger that a process ended
                await asyncio.sleep(0.05)
    assert await parent.stdout.read() == b""


async def test_children_give_way_and_stay_through_an_interrupt(validators: Validators) -> None:
    """Pollers come first: judging runs at a lower priority. Ctrl-C in a terminal is the parent's to answer."""
    (child,) = processes_of(validators)
    assert os.getpriority(os.PRIO_PROCESS, child) > os.getpriority(os.PRIO_PROCESS, 0)
    os.kill(child, signal.SIGINT)
    assert isinstance(await verdict(validators, doubtful()), Accepted)
    assert processes_of(validators) == [child]


def test_the_web_worker_does_not_load_stix2() -> None:
    """The parent has no use for it: only the judging processes pay for its memory."""
    program = "import sys, taxii_server.operations.validation; sys.exit('stix2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
