from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import SecretRef, SecretUnreadableError, values
from bridge.config.routing import parse_number
from bridge.config.times import parse_dates, parse_weekdays, parse_window
from bridge.config.values import KeyRef, parse_duration, parse_local, resolve_setting


@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_a_duration_is_the_sum_of_its_parts(days: int, hours: int, minutes: int, seconds: int) -> None:
    written = [f"{days} days", f"{hours}h", f"{minutes} min", f"{seconds} seconds"]
    text = " ".join(part for part in written if not part.startswith("0"))
    assert parse_duration(text) == timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


@pytest.mark.parametrize(
    "text", ["60", "", "soon", "5 parsecs", "1h and a bit", "0s", "-5 min", "9" * 20 + " h"]
)
def test_a_duration_without_a_unit_or_a_meaning_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="should be a time such as"):
        parse_duration(text)


def test_hours_over_midnight_begin_on_their_day_and_last_until_the_next() -> None:
    window = parse_window("Mon-Fri 18:00-08:00")
    assert (window.days, window.start, window.length) == (
        frozenset(range(5)),
        timedelta(hours=18),
        timedelta(hours=14),
    )


@pytest.mark.parametrize(
    ("text", "days"),
    [("daily", set(range(7))), ("sat,sun", {5, 6}), ("fri-mon", {4, 5, 6, 0}), ("wednesday", {2})],
)
def test_weekdays_are_read_as_they_are_said(text: str, days: set[int]) -> None:
    assert parse_weekdays(text) == days


@pytest.mark.parametrize("text", ["25:00-26:00", "Foo 08:00-09:00", "08:00", "", "08:75-09:00"])
def test_hours_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"should be hours|unknown weekday|no time of day"):
        parse_window(text)


def test_dates_that_end_before_they_begin_are_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        parse_dates("2026-12-26..2026-12-24")


def test_a_local_time_with_an_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="leave its offset away"):
        parse_local("2026-12-24T18:00+01:00")


@pytest.mark.parametrize("text", ["abc", "+1555..+15", "+1556..+1555", "", "*"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="should be a"):
        parse_number(text)


def test_an_unset_setting_without_a_default_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="env:NIGHTBELL_NOWHERE or DEFAULT"):
        resolve_setting("env:NIGHTBELL_NOWHERE")


def test_a_secret_is_read_from_the_environment_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = SecretRef("env", "NIGHTBELL_TEST_SECRET")
    monkeypatch.setenv("NIGHTBELL_TEST_SECRET", "s3cret")
    assert secret.read() == b"s3cret"


def test_a_secret_is_read_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"s3cret\n")
    secret = SecretRef("file", "key", tmp_path)
    assert (secret.read(), secret.read_text()) == (b"s3cret\n", "s3cret")


def test_a_secret_may_lie_in_the_file_that_its_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_bytes(b"s3cret\n")
    monkeypatch.setenv("NIGHTBELL_TEST_SECRET_FILE", str(tmp_path / "key"))
    assert SecretRef("env", "NIGHTBELL_TEST_SECRET").read_text() == "s3cret"


def test_a_secret_that_is_not_there_names_its_reference() -> None:
    with pytest.raises(SecretUnreadableError, match="set the environment variable NIGHTBELL_NOWHERE"):
        SecretRef("env", "NIGHTBELL_NOWHERE").read()


def test_a_secret_never_prints_more_than_its_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTBELL_TEST_SECRET", "s3cret")
    secret = SecretRef("env", "NIGHTBELL_TEST_SECRET")
    assert "s3cret" not in f"{secret} {secret!r}"


def test_a_key_is_what_a_command_prints_that_runs_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "sealed").write_text("s3cret\n")
    assert KeyRef.parse("command: cat sealed", tmp_path).read_text() == "s3cret"


def test_a_key_may_lie_where_any_secret_lies(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    assert KeyRef.parse("file:key", tmp_path).read_text() == "s3cret"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("false", "ended with 1"),
        ("nightbell-no-such-program", "No such file"),
        ("cat 'unfinished", "quotation"),
        ("true", "is empty"),
    ],
)
def test_a_command_that_prints_no_key_is_told_of(tmp_path: Path, command: str, reason: str) -> None:
    with pytest.raises(SecretUnreadableError, match=reason):
        KeyRef.parse(f"command:{command}", tmp_path).read_text()


def test_a_command_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "COMMAND_SECONDS", 0.01)
    with pytest.raises(SecretUnreadableError, match="did not end"):
        KeyRef.parse("command:sleep 60", tmp_path).read()


def test_what_a_command_says_beside_the_key_is_never_repeated(tmp_path: Path) -> None:
    key = KeyRef.parse("command:cat --s3cret", tmp_path)
    with pytest.raises(SecretUnreadableError) as caught:
        key.read()
    assert "s3cret" not in f"{caught.value} {key} {key!r}"


def test_only_keys_come_from_commands_since_other_secrets_are_read_again_and_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="env:NAME or file:PATH, and never"):
        SecretRef.parse("command:cat sealed", tmp_path)
