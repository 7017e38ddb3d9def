from __future__ import annotations

from bridge.policy.schedule import next_hand_over
from bridge.policy.summaries import on_call_line, render_digest, render_hand_over
from tests.policy.hospital import CARDIOLOGY, NOON, event, hospital, page, scheduled

DAYS = {"people": ["ana", "ben"], "hand_off": {"every": "day", "from": "2026-11-01 08:00"}}


def test_who_is_on_call_is_told_with_until_when_and_who_then() -> None:
    line = on_call_line(scheduled(DAYS), CARDIOLOGY, NOON)
    assert line == "Cardiology on call: Dr. Ben Meyer until Wed 25 Nov 08:00, then Dr. Ana Meyer"


def test_who_is_always_on_call_is_told_without_an_end() -> None:
    assert on_call_line(hospital(), CARDIOLOGY, NOON) == "Cardiology on call: Dr. Ana Meyer"


def test_a_hand_over_lists_what_is_open_and_mentions_who_comes() -> None:
    config = scheduled(DAYS)
    hand_over = next_hand_over(config, CARDIOLOGY, NOON)
    assert hand_over is not None
    text = render_hand_over(config, hand_over, [page()], NOON)
    assert text.plain.reveal().splitlines() == [
        "Dr. Ana Meyer now has Cardiology on call. Thank you, Dr. Ben Meyer.",
        "1 open:",
        "Open since 12:00 · notified Dr. Ana Meyer",
    ]
    assert text.mentions == ("@ana:nightbell.test",)


def test_a_digest_is_one_quiet_message_of_a_line_each() -> None:
    text = render_digest(hospital(), [(page(), event("a\nb")), (page(), event("<c>", caller=None))], NOON)
    assert text.plain.reveal().splitlines()[1:] == ["12:00 · +15550200: a b", "12:00 · sms: <c>"]
    assert "&lt;c&gt;" in text.html.reveal()
    assert (text.mentions, text.notice) == ((), True)
