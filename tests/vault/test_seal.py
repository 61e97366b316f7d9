"""What is sealed is opened with the right key in the right place, and in no other way."""

import secrets

import pytest

from operator_api.vault.seal import KEY_BYTES, Sealer, Unsealable

KEY = secrets.token_bytes(KEY_BYTES)
TEXT = b"the answer, with its token"
CONTEXT = b"tenant 1, key 2"


@pytest.fixture
def sealer() -> Sealer:
    return Sealer(KEY)


@pytest.mark.parametrize("text", [b"", b"\0", TEXT, secrets.token_bytes(100_000)])
def test_what_is_sealed_can_be_opened(sealer: Sealer, text: bytes) -> None:
    assert Sealer(KEY).open(sealer.seal(text, CONTEXT), CONTEXT) == text


def test_the_text_is_not_in_the_sealed_value(sealer: Sealer) -> None:
    assert TEXT not in sealer.seal(TEXT, CONTEXT)


def test_any_flipped_bit_is_noticed(sealer: Sealer) -> None:
    sealed = sealer.seal(TEXT, CONTEXT)
    for position in range(len(sealed)):
        for bit in range(8):
            changed = bytearray(sealed)
            changed[position] ^= 1 << bit
            with pytest.raises(Unsealable):
                sealer.open(bytes(changed), CONTEXT)


def test_any_cut_is_noticed(sealer: Sealer) -> None:
    sealed = sealer.seal(TEXT, CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(Unsealable):
            sealer.open(sealed[:length], CONTEXT)
        with pytest.raises(Unsealable):
            sealer.open(sealed[len(sealed) - length :], CONTEXT)
    with pytest.raises(Unsealable):
        sealer.open(sealed + b"\0", CONTEXT)


def test_another_context_does_not_open(sealer: Sealer) -> None:
    sealed = sealer.seal(TEXT, CONTEXT)
    for other in (b"", CONTEXT[:-1], CONTEXT + b"\0", b"tenant 2, key 2"):
        with pytest.raises(Unsealable):
            sealer.open(sealed, other)


def test_another_key_does_not_open(sealer: Sealer) -> None:
    with pytest.raises(Unsealable):
        Sealer(secrets.token_bytes(KEY_BYTES)).open(sealer.seal(TEXT, CONTEXT), CONTEXT)


def test_no_two_sealed_values_are_alike(sealer: Sealer) -> None:
    # A nonce that comes twice gives AES-GCM's authentication key away.
    nonces = {sealer.seal(TEXT, CONTEXT)[:12] for _ in range(10_000)}
    assert len(nonces) == 10_000


def test_the_error_says_nothing_of_the_value(sealer: Sealer) -> None:
    with pytest.raises(Unsealable) as raised:
        sealer.open(sealer.seal(TEXT, CONTEXT), b"other")
    assert str(raised.value) == "the value cannot be opened with this key and context"
    assert raised.value.__suppress_context__


def test_repr_shows_nothing_of_the_key(sealer: Sealer) -> None:
    assert KEY.hex() not in repr(sealer)
    assert repr(KEY)[2:-1] not in repr(sealer)
