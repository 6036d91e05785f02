"""examples/pusher.py: envelopes the server takes, a verdict for each object, and no harm in doing it again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.conftest import MAX_CONTENT_LENGTH, Proxy, Site, answer, proxy_to
from tests.factories import indicator, ipv4, stix_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import CompletedProcess

Stix = dict[str, Any]


@pytest.fixture
def proxy(feed: Site) -> Iterator[Proxy]:
    with proxy_to(feed) as running:
        yield running


def push(feed: Site, proxy: Proxy, objects: list[Stix], *arguments: str) -> tuple[CompletedProcess[str], Any]:
    """Push a bundle; give what the pusher said and its report."""
    text = json.dumps({"type": "bundle", "id": stix_id("bundle", 1), "objects": objects})
    done = feed.run("pusher.py", proxy.url(feed.collection), "-", "--backoff", "0.01", *arguments, text=text)
    return done, json.loads(done.stdout) if done.stdout else None


def bodies(proxy: Proxy) -> list[int]:
    return [length for method, _, length in proxy.seen if method == "POST"]


def padded(number: int, length: int) -> Stix:
    """An indicator whose text, as the pusher writes it, has just so many octets, some of them in two-octet letters."""
    made = indicator(id=stix_id("indicator", number), description="Größe ")
    short = length - len(json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode())
    made["description"] += "x" * short
    return made


OVERHEAD = len('{"objects":[]}')


def test_envelopes_fill_the_limit_to_the_octet(feed: Site, proxy: Proxy) -> None:
    """Two halves that fit exactly go as one envelope; one octet more and they go as two. All arrive, in order."""
    half = (MAX_CONTENT_LENGTH - OVERHEAD - 1) // 2
    exact = [padded(1, half), padded(2, MAX_CONTENT_LENGTH - OVERHEAD - 1 - half)]
    more = [padded(3, half + 1), padded(4, MAX_CONTENT_LENGTH - OVERHEAD - 1 - half)]

    done, report = push(feed, proxy, [*exact, *more])

    assert done.returncode == 0, done.stderr
    assert bodies(proxy)[0] == MAX_CONTENT_LENGTH
    assert len(bodies(proxy)) == 3
    assert report == {"objects": 4, "stored": 4, "refused": [], "pending": 0}
    assert feed.versions() == [*exact, *more]


@pytest.mark.slow
def test_envelopes_hold_no_more_than_a_count(feed: Site, proxy: Proxy) -> None:
    """Nothing is lost at the edges."""
    objects = [indicator(id=stix_id("indicator", number)) for number in range(11)]

    done, report = push(feed, proxy, objects, "--count", "5")

    assert (done.returncode, report["stored"]) == (0, 11)
    assert len(bodies(proxy)) == 3
    assert feed.versions() == objects


def test_what_is_too_large_alone_is_reported_and_the_rest_goes(feed: Site, proxy: Proxy) -> None:
    """The limit is the API Root's; the object that can't be sent is named."""
    fits, large = padded(1, MAX_CONTENT_LENGTH - OVERHEAD), padded(2, MAX_CONTENT_LENGTH - OVERHEAD + 1)

    done, report = push(feed, proxy, [large, fits])

    assert done.returncode == 1
    assert report["stored"] == 1
    (refused,) = report["refused"]
    assert refused["id"] == large["id"]
    assert f"takes an envelope of {MAX_CONTENT_LENGTH + 1} octets; the server takes {MAX_CONTENT_LENGTH}" in str(
        refused
    )
    assert feed.versions() == [fits]


def test_each_refused_object_is_reported_with_the_servers_message(feed: Site, proxy: Proxy) -> None:
    """A bundle with bad objects: the good ones are stored, the bad ones told; a report file holds the same."""
    good = [indicator(id=stix_id("indicator", number)) for number in range(3)]
    conflict = {**good[0], "name": "Other content under the same version"}
    bad = indicator(id="indicator--nonsense")

    done, _ = push(feed, proxy, [good[0], bad, *good[1:], conflict], "--count", "2", "--report", "report.json")
    report = json.loads((feed.folder / "report.json").read_text())

    assert done.returncode == 1
    assert done.stdout == ""
    assert (report["objects"], report["stored"], report["pending"]) == (5, 3, 0)
    assert {one["id"] for one in report["refused"]} == {bad["id"], conflict["id"]}
    assert all(one["message"] for one in report["refused"])
    assert feed.versions() == good


@pytest.mark.parametrize(
    "fault", ["before", "after", "half", answer(503, Retry_After="0")], ids=["before", "after", "half", "503"]
)
def test_a_push_whose_end_is_unknown_is_repeated_without_harm(feed: Site, proxy: Proxy, fault: Any) -> None:
    """A connection lost before, after or in the answer: in the end each object is there once, and told as stored."""
    objects = [indicator(id=stix_id("indicator", number)) for number in range(6)]
    objects.append(ipv4(id=stix_id("ipv4-addr", 1)))
    proxy.faults.extend([None, None, fault])  # the API Root, the first envelope, the second

    done, report = push(feed, proxy, objects, "--count", "3")

    assert done.returncode == 0, done.stderr
    assert not proxy.faults
    assert len(bodies(proxy)) == 4
    assert report == {"objects": 7, "stored": 7, "refused": [], "pending": 0}
    assert feed.versions() == objects


@pytest.mark.slow
def test_a_file_can_be_pushed_again(feed: Site, proxy: Proxy) -> None:
    """What is there with equal content is a success, and no second copy."""
    objects = [indicator(id=stix_id("indicator", 1)), ipv4(id=stix_id("ipv4-addr", 1))]

    reports = [push(feed, proxy, objects)[1] for _ in range(2)]

    assert reports[0] == reports[1] == {"objects": 2, "stored": 2, "refused": [], "pending": 0}
    assert feed.versions() == objects


def test_a_proxy_that_takes_less_is_given_less(feed: Site, proxy: Proxy) -> None:
    """413 from something in between: the envelope is halved; one object that is refused alone is reported."""
    objects = [indicator(id=stix_id("indicator", number)) for number in range(4)]
    # the API Root; four; two; one; the other one; the other two
    proxy.faults.extend([None, answer(413), answer(413), None, answer(413), None])

    done, report = push(feed, proxy, objects)

    assert done.returncode == 1, done.stderr
    assert report["stored"] == 3
    assert [one["id"] for one in report["refused"]] == [objects[1]["id"]]


@pytest.mark.slow
def test_a_pending_status_is_asked_until_it_is_complete(feed: Site, proxy: Proxy) -> None:
    """§4.3: a server may judge later; its verdicts count, and one that never comes is told."""
    pending: dict[str, Any] = {"id": "2d086da7-4bdc-4f91-900e-d77486753710", "status": "pending", "total_count": 2}
    pending |= {"success_count": 0, "failure_count": 0, "pending_count": 2}
    failures = [{"id": "indicator--x", "version": "v", "message": "No."}]
    complete = pending | {"status": "complete", "success_count": 1, "failure_count": 1, "pending_count": 0}
    complete["failures"] = failures
    proxy.faults.extend([None, answer(202, pending), answer(200, pending), answer(200, complete)])
    objects = [indicator(id=stix_id("indicator", number)) for number in range(2)]

    done, report = push(feed, proxy, objects)

    assert done.returncode == 1, done.stderr
    assert report == {"objects": 2, "stored": 1, "refused": failures, "pending": 0}
    assert proxy.seen[-1][1].endswith(f"/fraud-intel/status/{pending['id']}/")

    # the list of failures is optional (§4.3.1)
    proxy.faults.extend([None, answer(202, {name: value for name, value in complete.items() if name != "failures"})])
    _, report = push(feed, proxy, objects)

    unnamed = {"id": None, "version": None, "message": f"refused, see status {pending['id']}"}
    assert report == {"objects": 2, "stored": 1, "refused": [unnamed], "pending": 0}

    proxy.faults.extend([None, answer(202, pending), *[answer(200, pending)] * 9])
    done, report = push(feed, proxy, objects, "--patience", "0.5")

    assert (done.returncode, report["pending"], report["stored"]) == (2, 2, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Expecting property name"),
        ("[]", "neither a STIX bundle nor a TAXII envelope"),
        ('{"objects": [1]}', "neither a STIX bundle nor a TAXII envelope"),
        ('{"objects": [{"x": 1e999}]}', "Out of range"),
    ],
)
def test_what_is_no_bundle_is_refused_before_anything_is_sent(feed: Site, proxy: Proxy, text: str, said: str) -> None:
    """Exit code 2, and a reason."""
    done = feed.run("pusher.py", proxy.url(feed.collection), "-", text=text)

    assert done.returncode == 2
    assert said in done.stderr
    assert proxy.seen == []


def test_a_refused_push_says_why_and_what_was_done_before(feed: Site, proxy: Proxy) -> None:
    """Half way: exit code 2, the report counts what is stored."""
    objects = [indicator(id=stix_id("indicator", number)) for number in range(4)]
    proxy.faults.extend([None, None, answer(403)])

    done, report = push(feed, proxy, objects, "--count", "2")

    assert done.returncode == 2
    assert "403" in done.stderr
    assert (report["objects"], report["stored"]) == (4, 2)


def test_a_server_that_stays_away_is_given_up(feed: Site, proxy: Proxy) -> None:
    """After the patience that was asked for."""
    proxy.faults.extend(["before"] * 50)

    done, report = push(feed, proxy, [indicator()], "--patience", "0.3")

    assert done.returncode == 2
    assert "gave up" in done.stderr
    assert report["stored"] == 0
