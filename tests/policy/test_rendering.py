from __future__ import annotations

from datetime import timedelta
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.decision import Move, StepKind
from bridge.model.ids import UserId
from bridge.model.page import PageState
from bridge.model.priority import Priority
from bridge.policy.rendering import PageText, duration, isolated, render, render_move
from tests.policy.hospital import ANA, BEN, CARDIOLOGY, NOON, event, hospital, page

MINUTE = timedelta(minutes=1)


def rendered(text: str = "chest pain", *, lines: list[str] | None = None, **of_page: Any) -> PageText:
    templates = {"plain": {"lines": lines}} if lines else None
    config = hospital(**({"templates": templates} if templates else {}))
    return render(config, page(**of_page), event(text, caller_name="Jo <b> Doe"), NOON)


def test_a_page_shows_its_event_then_its_state_then_what_to_tap() -> None:
    assert rendered().plain.reveal().splitlines() == [
        "🟠 Urgent · Text message",
        "From Jo <b> Doe +1 5550200",
        "chest pain",
        "",
        "Open since 12:00 · notified Dr. Ana Meyer",
        "✅ accept · ❌ decline",
    ]


def test_what_a_caller_wrote_is_never_html() -> None:
    html = rendered("<script>x</script>\nsecond").html.reveal()
    assert "&lt;script&gt;x&lt;/script&gt;<br>second" in html
    assert "<script>" not in html
    assert "Jo &lt;b&gt; Doe" in html


@pytest.mark.parametrize(
    "name", ["\u202e", "\u2067\u202eoJ", "\u2069\u202e", "يوسف 12", "\u2066\u2066\u202e\u2069"]
)
def test_a_name_of_whatever_direction_turns_no_number_round(name: str) -> None:
    text = render(hospital(), page(), event("chest pain", caller_name=name), NOON).plain.reveal()
    said = text.splitlines()[1].removeprefix("From ").removesuffix(" +1 5550200")
    assert name in said
    # It is one isolate, from its first character to its last (UAX 9, BD9).
    depths = list(accumulate((c in "\u2066\u2067\u2068") - (c == "\u2069") for c in said))
    assert depths[-1] == 0
    assert min(depths[:-1]) >= 1


@given(st.text(st.sampled_from("a1 א\u202a\u202c\u202e\u2066\u2067\u2068\u2069")))
def test_no_text_ends_its_own_isolation(text: str) -> None:
    said = isolated(text)
    assert text in said
    depths = list(accumulate((c in "\u2066\u2067\u2068") - (c == "\u2069") for c in said))
    assert said == text or (depths[-1] == 0 and min(depths[:-1]) >= 1)


def test_each_line_of_a_text_is_isolated_by_itself() -> None:
    assert "\u2068\u202eon\u2069\nsecond" in rendered("\u202eon\nsecond").plain.reveal()


def test_braces_in_a_text_are_only_braces() -> None:
    assert "{caller}" in rendered("look: {caller} {0}").plain.reveal()


def test_a_line_of_which_nothing_is_known_is_left_out() -> None:
    lines = rendered(lines=["Queue {queue}", "Always", "{body}"]).plain.reveal().splitlines()
    assert lines[:2] == ["Always", "chest pain"]


def test_what_the_source_says_besides_is_shown_where_a_template_names_it() -> None:
    lines = ["Pressed {attributes.digits}", "Waited {attributes.waited_seconds} s", "{{{attributes.note}}}"]
    config = hospital(templates={"plain": {"lines": lines}})
    text = render(config, page(), event(digits="2", note="<b> {body}" + "x" * 1000), NOON)
    assert text.plain.reveal().startswith("Pressed 2\n{<b> {body}xxx")
    assert "more characters" in text.plain.reveal()
    assert text.html.reveal().startswith("<strong>Pressed 2</strong><br>{&lt;b&gt; {body}xxx")


def test_an_accepted_page_says_who_has_it_and_since_when() -> None:
    text = rendered(
        state=PageState.ACCEPTED, accepted_by=UserId("@ben:nightbell.test"), accepted_at=NOON + 3 * MINUTE
    )
    assert "Accepted by Dr. Ben Meyer at 12:03" in text.plain.reveal()
    assert "accept ·" not in text.plain.reveal()


def test_another_day_is_named() -> None:
    text = rendered(opened_at=NOON - timedelta(days=1)).plain.reveal()
    assert "Open since Mon 23 Nov 12:00" in text


@pytest.mark.parametrize(
    ("priority", "mentions", "notice"),
    [
        (Priority.STAT, ("@ana:nightbell.test",), False),
        (Priority.URGENT, ("@ana:nightbell.test",), False),
        (Priority.ROUTINE, (), True),
    ],
)
def test_stat_and_urgent_mention_and_routine_is_a_notice(
    priority: Priority, mentions: tuple[str, ...], *, notice: bool
) -> None:
    text = rendered(priority=priority)
    assert (text.mentions, text.notice) == (mentions, notice)


def test_an_accepted_page_mentions_nobody() -> None:
    text = rendered(state=PageState.ACCEPTED, accepted_by=UserId("@x:y"), accepted_at=NOON)
    assert text.mentions == ()


def test_a_bundle_says_how_many_events_it_holds() -> None:
    config = hospital(templates={"plain": {"lines": ["{kind} {count}"]}})
    assert render(config, page(), event(), NOON, count=3).plain.reveal().startswith("Text message 3 times\n")


def move(kind: StepKind, *notify: Any, **more: Any) -> Move:
    return Move(2, kind, notify, CARDIOLOGY, None, **more)


def test_a_climb_asks_the_next_person_by_name_without_any_content() -> None:
    text = render_move(hospital(), page(), move(StepKind.NEXT, BEN), NOON)
    assert text.plain.reveal() == "Dr. Ben Meyer: please accept · Cardiology on call, open since 12:00"
    assert text.mentions == ("@ben:nightbell.test",)


def test_operations_hear_who_was_notified_what_was_skipped_and_how_late_it_is() -> None:
    late = move(StepKind.OPERATIONS, skipped=("1 backup",), late_by=90 * MINUTE)
    text = render_move(hospital(), page(notified=(ANA, BEN)), late, NOON).plain.reveal()
    assert text == (
        "🟠 Urgent · Cardiology on call: a page is not accepted, open since 12:00; notified: Dr. Ana Meyer,"
        " Dr. Ben Meyer · nobody could be reached on 1 backup · this comes 1 h 30 min late"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (61, "1 min 1 s"), (7200, "2 h"), (90_061, "1 d 1 h"), (3_605, "1 h 5 s")],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text
