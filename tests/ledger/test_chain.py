"""Whatever is done to an export of the ledger, its verification finds it and names the place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from bridge import ledger
from bridge.ledger import Action, Checkpoint, Head, Record
from bridge.model.ids import PageId
from bridge.model.phi import Phi

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
NOW = datetime(2026, 11, 24, 3, 12, tzinfo=UTC)

words = st.text(max_size=12)
records = st.builds(
    Record,
    action=st.sampled_from(Action),
    actor=words,
    page=st.none() | words.filter(bool).map(PageId),
    objects=st.dictionaries(words, words | st.integers() | st.lists(words, max_size=3), max_size=3),
    outcome=words,
    patient=st.none() | st.binary(min_size=1, max_size=8),
)


def place_of(links: list[ledger.Link], seq: int) -> Head:
    return Head(seq, links[seq - 1].hash)


def export(of: list[Record], *, signed_at: list[int] | None = None) -> list[str]:
    links = ledger.chain(Head(), of, NOW)
    places = [len(links)] if signed_at is None else signed_at
    return list(ledger.lines_of(links, [ledger.sign(place_of(links, seq), NOW, KEY) for seq in places]))


def verify(lines: list[str], *anchors: str) -> ledger.Verdict:
    return ledger.verify(lines, KEY.public_key(), anchors=anchors)


chains = st.lists(records, min_size=2, max_size=8)


@given(chains)
def test_a_ledger_that_nobody_touched_is_whole(of: list[Record]) -> None:
    verdict = verify(export(of))
    assert verdict == ledger.Verdict(records=len(of), after=0, last=len(of), vouched=len(of))


@given(chains, st.data())
def test_a_changed_record_is_found(of: list[Record], data: st.DataObject) -> None:
    lines = export(of)
    place = data.draw(st.integers(0, len(of) - 1))
    document = json.loads(lines[place])
    name = data.draw(st.sampled_from(sorted({*document, "added"} - {"hash", "seq", "previous"})))
    document[name] = "changed"
    changed = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assume(changed != lines[place])
    lines[place] = changed
    assert verify(lines).problem == f"record {place + 1} (line {place + 1}) was changed"


@given(chains, st.data())
def test_a_record_that_was_changed_and_hashed_again_is_found_by_the_one_after_it(
    of: list[Record], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(of) - 1))
    lines, forged = export(of), export([*of[:place], Record(Action.ACCEPTED, "@mallory"), *of[place + 1 :]])
    assume(forged[place] != lines[place])
    lines[place] = forged[place]
    problem = verify(lines).problem
    assert problem is not None
    assert problem.startswith(f"record {place + 1} " if place == len(of) - 1 else f"record {place + 2} ")


@given(chains, st.data())
def test_a_dropped_record_is_found(of: list[Record], data: st.DataObject) -> None:
    lines = export(of)
    del lines[data.draw(st.integers(0, len(of) - 1))]
    assert verify(lines).problem is not None


@given(chains, st.data())
def test_records_that_changed_places_are_found(of: list[Record], data: st.DataObject) -> None:
    lines = export(of)
    one, other = data.draw(st.lists(st.integers(0, len(of) - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    problem = verify(lines).problem
    assert problem is not None
    assert f"record {min(one, other) + 1} should stand here" in problem


@given(chains, st.data())
def test_a_record_that_was_put_in_is_found(of: list[Record], data: st.DataObject) -> None:
    lines = export(of)
    place = data.draw(st.integers(0, len(of)))
    before = ledger.chain(Head(), of[:place], NOW)
    head = Head(place, before[-1].hash) if before else Head()
    (extra,) = ledger.chain(head, [Record(Action.ACCEPTED, "@mallory", outcome="put in")], NOW)
    lines.insert(place, ledger.link_line(extra))
    assert verify(lines).problem is not None


@given(chains, st.data())
def test_records_after_the_last_checkpoint_are_not_vouched_for(of: list[Record], data: st.DataObject) -> None:
    seq = data.draw(st.integers(1, len(of)))
    assert verify(export(of, signed_at=[seq])).vouched == seq


@given(chains, st.data())
def test_a_cut_off_end_is_found_by_a_checkpoint_kept_elsewhere(of: list[Record], data: st.DataObject) -> None:
    lines = export(of)
    kept = data.draw(st.integers(1, len(of) - 1))
    assert verify(lines[:kept]).problem is None
    problem = verify(lines[:kept], lines[-1]).problem
    assert problem == f"the end is missing: an anchor vouches for record {len(of)}, the last is {kept}"


@given(chains, st.data())
def test_a_fork_is_found_by_a_checkpoint_of_the_other_branch(of: list[Record], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(of) - 1))
    branch = export([*of[:place], Record(Action.ACCEPTED, "@mallory", outcome="fork"), *of[place + 1 :]])
    assume(branch != export(of))
    problem = verify(branch, export(of)[-1]).problem
    assert problem == f"record {len(of)} (line {len(of)}) is not the one that an anchor vouches for"


def test_two_branches_that_were_both_signed_are_told_from_their_checkpoints() -> None:
    of = [Record(Action.STARTED), Record(Action.ROUTED)]
    other = [Record(Action.STARTED), Record(Action.CLOSED)]
    problem = verify(export(of), export(of)[-1], export(other)[-1]).problem
    assert problem == "two anchors vouch for different records 2: the ledger was forked"


@given(chains)
def test_a_ledger_that_was_written_anew_is_found_by_its_signature(of: list[Record]) -> None:
    links = ledger.chain(Head(), of, NOW)
    forged = ledger.sign(place_of(links, len(of)), NOW, OTHER_KEY)
    verdict = verify(list(ledger.lines_of(links, [forged])))
    assert verdict.problem == f"line {len(of) + 1}: the checkpoint is not signed by this key"


def test_an_export_may_begin_after_a_checkpoint() -> None:
    lines = export([Record(Action.STARTED)] * 5, signed_at=[2, 5])
    verdict = verify(lines[2:])
    assert (verdict.after, verdict.records, verdict.last, verdict.problem) == (2, 3, 5, None)


def test_an_export_without_its_beginning_is_refused() -> None:
    lines = export([Record(Action.STARTED)] * 5)
    assert verify(lines[1:]).problem == "record 2 (line 1): record 1 should stand here"


@given(chains, st.data())
def test_an_earlier_export_shows_a_ledger_that_was_cut_or_written_anew(
    of: list[Record], data: st.DataObject
) -> None:
    earlier = export(of)
    kept = data.draw(st.integers(1, len(of) - 1))
    assert verify(earlier, *earlier).problem is None
    assert "the end is missing" in str(verify(export(of[:kept]), *earlier).problem)
    anew = export([*of[:-1], Record(Action.STARTED, "somebody else, who has the key")])
    assert "is not the one that an anchor vouches for" in str(verify(anew, *earlier).problem)


def test_an_empty_export_is_not_taken_for_whole() -> None:
    assert verify([]).problem == "it is empty: neither a record nor a signature stands in it"


def test_a_record_that_says_something_twice_is_refused() -> None:
    lines = export([Record(Action.ACCEPTED, "@okafor")])
    lines[0] = lines[0].replace('"actor":"@okafor"', '"actor":"@mallory","actor":"@okafor"')
    problem = verify(lines).problem
    assert problem == "line 1 is not written as a record is: it may hold something twice"


@pytest.mark.parametrize("line", ["", "null", "[]", "{", '{"checkpoint":1}', '{"checkpoint":{}}', '"a"'])
def test_what_is_no_record_is_refused(line: str) -> None:
    assert verify([line]).problem in ("line 1 is no record", "line 1 is no checkpoint")


def test_moments_are_written_in_utc_to_the_microsecond() -> None:
    (link,) = ledger.chain(Head(), [Record(Action.STARTED)], NOW + timedelta(microseconds=7))
    assert json.loads(ledger.link_line(link))["at"] == "2026-11-24T03:12:00.000007Z"


def test_content_can_not_be_recorded() -> None:
    with pytest.raises(TypeError):
        ledger.chain(Head(), [Record(Action.ROUTED, objects={"text": Phi("Bed 12")})], NOW)  # type: ignore[dict-item]


def test_a_checkpoint_is_for_one_place_and_one_moment() -> None:
    (link,) = ledger.chain(Head(), [Record(Action.STARTED)], NOW)
    signed = ledger.sign(Head(1, link.hash), NOW, KEY)
    moved = Checkpoint(signed.head, NOW + timedelta(days=1), signed.signature)
    problem = verify([ledger.link_line(link), ledger.checkpoint_line(moved)]).problem
    assert problem == "line 2: the checkpoint is not signed by this key"


def test_the_public_key_can_be_handed_over_as_text() -> None:
    key = ledger.read_public_key(ledger.public_key_text(KEY) + "\n")
    assert ledger.verify(export([Record(Action.STARTED)]), key).problem is None
