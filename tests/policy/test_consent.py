"""Whoever writes STOP is not written to."""

from __future__ import annotations

import pytest

from bridge.policy.consent import consent


@pytest.mark.parametrize("text", ["STOP", " stop. ", "Stop all", "Unsubscribe", "ARRÊT", "opt-out", "QUIT!"])
def test_a_word_that_ends_texts_ends_them(text: str) -> None:
    assert consent(text) is False


@pytest.mark.parametrize("text", ["start", "UNSTOP"])
def test_a_word_that_begins_them_again_does(text: str) -> None:
    assert consent(text) is True


@pytest.mark.parametrize("text", ["stop the bleeding", "please don't stop", "the end is near", "yes", ""])
def test_a_sentence_of_a_patient_is_no_such_word(text: str) -> None:
    assert consent(text) is None
