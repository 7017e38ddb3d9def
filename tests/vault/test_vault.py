"""Encryption at rest: what opens, what does not, and what can't be printed."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import vault
from bridge.model.phi import Phi
from bridge.vault import Vault, VaultError, generate_operator_key, new_key, parse_operator_key

OPERATOR_KEY = bytes(range(32))


@given(content=st.binary(max_size=200), context=st.text(max_size=40))
def test_what_is_sealed_opens_again(content: bytes, context: str) -> None:
    key = new_key("page")
    assert key.open(key.seal(Phi(content), context), context) == Phi(content)


def test_a_sealed_value_opens_under_no_other_key() -> None:
    sealed = new_key("page").seal(Phi(b"Bed 12"), "intake 1")
    with pytest.raises(VaultError):
        new_key("page").open(sealed, "intake 1")


def test_a_sealed_value_opens_in_no_other_place() -> None:
    key = new_key("page")
    sealed = key.seal(Phi(b"Bed 12"), "intake 1")
    with pytest.raises(VaultError):
        key.open(sealed, "intake 2")


@given(position=st.integers(min_value=0), flipped=st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_noticed(position: int, flipped: int) -> None:
    key = new_key("page")
    sealed = bytearray(key.seal(Phi(b"Bed 12"), "intake 1"))
    sealed[position % len(sealed)] ^= flipped
    with pytest.raises(VaultError):
        key.open(bytes(sealed), "intake 1")


@given(length=st.integers(min_value=0, max_value=30))
def test_a_cut_value_is_noticed(length: int) -> None:
    key = new_key("page")
    with pytest.raises(VaultError):
        key.open(key.seal(Phi(b"Bed 12"), "intake 1")[:length], "intake 1")


def test_the_same_value_never_looks_the_same() -> None:
    key = new_key("page")
    sealed = {key.seal(Phi(b"Bed 12"), "intake 1") for _ in range(100)}
    assert len(sealed) == 100


def test_a_wrapped_key_opens_what_the_key_sealed() -> None:
    day, key = new_key("day"), new_key("page")
    sealed = key.seal(Phi(b"Bed 12"), "intake 1")
    assert day.unwrap("page", day.wrap(key)).open(sealed, "intake 1") == Phi(b"Bed 12")


def test_a_wrapped_key_can_not_pass_for_another() -> None:
    day = new_key("day")
    with pytest.raises(VaultError):
        day.unwrap("another", day.wrap(new_key("page")))


def test_a_key_does_not_show_itself() -> None:
    vault = Vault(OPERATOR_KEY)
    assert repr(vault.root) == str(vault.root) == f"Key({vault.root.id})"


def test_nothing_of_a_vault_error_repeats_the_value() -> None:
    sealed = new_key("page").seal(Phi(b"Bed 12"), "intake 1")
    with pytest.raises(VaultError) as refused:
        new_key("page").open(sealed, "intake 1")
    assert "Bed 12" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_the_same_operator_key_gives_the_same_vault() -> None:
    one, other = Vault(OPERATOR_KEY), Vault(OPERATOR_KEY)
    other.verify(one.root.id, one.prove())
    assert one.root.id == other.root.id
    assert other.unwrap("day", one.root.wrap(new_key("day"))).id == "day"


def test_another_operator_key_is_told_apart() -> None:
    one, other = Vault(OPERATOR_KEY), Vault(bytes(32))
    with pytest.raises(VaultError, match="configure the key that belongs to this database"):
        other.verify(one.root.id, one.prove())
    with pytest.raises(VaultError, match="no configured operator key"):
        other.unwrap("day", one.root.wrap(new_key("day")))


def test_the_key_before_a_change_of_keys_still_opens_what_it_wrapped() -> None:
    old, new = Vault(OPERATOR_KEY), Vault(bytes(32), OPERATOR_KEY)
    new.verify(old.root.id, old.prove())
    assert new.unwrap("day", old.root.wrap(new_key("day"))).id == "day"
    assert new.root.id != old.root.id


def test_every_use_of_the_operator_key_has_a_key_of_its_own() -> None:
    derived = {vault._derive(OPERATOR_KEY, purpose) for purpose in ("wrap", "key id")}
    assert len(derived | {OPERATOR_KEY}) == 3


def test_a_fingerprint_tells_kinds_apart() -> None:
    key = new_key("lookup")
    assert key.fingerprint("intake a", Phi("b")) != key.fingerprint("intake", Phi("ab"))
    assert key.fingerprint("intake sms", Phi("1")) != key.fingerprint("intake events", Phi("1"))


def test_a_fresh_operator_key_can_be_read_back() -> None:
    assert len(parse_operator_key(f"  {generate_operator_key()}\n")) == 32


@pytest.mark.parametrize("text", ["", "hunter2", "aGVsbG8=", "!" * 44, "ÄÖÜ", "A" * 64])
def test_what_is_no_operator_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(VaultError, match="nightbell keygen") as refused:
        parse_operator_key(text)
    assert not text or text not in str(refused.value)


def test_protected_content_can_not_be_pickled() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Phi("Bed 12"))
