"""Keys: given by the operator or made once, and never shown."""

import base64
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from operator_api.vault.keys import Keyring, UnusableKeyError, derive, load_or_make, parse_keys
from operator_api.vault.seal import KEY_BYTES

CONTEXT = b"installation:secret"
# Fixed, since they are part of the tests' names; NEW is one that is not UTF-8, as most keys are.
OLD, NEW, OTHER = (bytes([number]) * KEY_BYTES for number in (1, 0xE2, 3))


def in_base64(*given: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in given)


# --- parsing ---


@pytest.mark.parametrize(
    "spaced", [lambda text: text, lambda text: f" {text.replace(',', ' , ')}\n"]
)
def test_keys_are_read_in_their_order(spaced: Callable[[str], str]) -> None:
    assert parse_keys(spaced(in_base64(NEW, OLD))) == [NEW, OLD]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "not base64!",
        "kéy",
        in_base64(NEW[:-1]),
        in_base64(NEW + b"\0"),
        in_base64(NEW)[:-1],
        in_base64(NEW) + ",",
        in_base64(NEW, OLD[:16]),
        NEW.hex(),
    ],
)
def test_a_malformed_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(UnusableKeyError) as raised:
        parse_keys(text)
    for part in filter(None, text.split(",")):
        assert part not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


# --- the keyring ---


def test_the_first_key_seals_and_all_of_them_open() -> None:
    by_old = Keyring([OLD]).wrap(b"secret", CONTEXT)
    rotated = Keyring([NEW, OLD])
    assert rotated.unwrap(by_old, CONTEXT) == b"secret"
    assert Keyring([NEW]).unwrap(rotated.wrap(b"secret", CONTEXT), CONTEXT) == b"secret"


def test_a_key_that_is_gone_no_longer_opens() -> None:
    by_old = Keyring([OLD]).wrap(b"secret", CONTEXT)
    with pytest.raises(UnusableKeyError, match="none of the secret keys opens"):
        Keyring([NEW, OTHER]).unwrap(by_old, CONTEXT)


def test_a_wrapped_key_does_not_open_in_another_place() -> None:
    with pytest.raises(UnusableKeyError):
        Keyring([OLD]).unwrap(Keyring([OLD]).wrap(b"secret", CONTEXT), b"elsewhere")


@pytest.mark.parametrize("unusable", [[], [b""], [NEW[:16]], [NEW, NEW[:-1]]])
def test_a_keyring_of_unusable_keys_is_refused(unusable: list[bytes]) -> None:
    with pytest.raises(UnusableKeyError, match="32 bytes"):
        Keyring(unusable)


def test_repr_shows_no_key() -> None:
    shown = repr(Keyring([OLD, NEW]))
    for key in (OLD, NEW):
        assert repr(key)[2:-1] not in shown
        assert key.hex() not in shown
        assert in_base64(key) not in shown


def test_each_purpose_and_each_secret_has_a_key_of_its_own() -> None:
    derived = {derive(secret, purpose) for secret in (OLD, NEW) for purpose in ("a", "b", "")}
    assert len(derived) == 6
    assert {len(key) for key in derived} == {KEY_BYTES}
    assert derive(OLD, "a") == derive(OLD, "a")


# --- the key file ---


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    before = os.umask(0)  # the widest there is: the file must not depend on it
    try:
        made = load_or_make(file)
    finally:
        os.umask(before)
    assert load_or_make(file) == made
    assert [len(key) for key in made] == [KEY_BYTES]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_file_may_hold_several_keys(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    file.write_text(f"{in_base64(NEW, OLD)}\n")
    assert load_or_make(file) == [NEW, OLD]


@pytest.mark.parametrize("content", [b"", b"\n", b"not a key", b"\xff\xfe", bytes(32)])
def test_a_malformed_key_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret.key"
    file.write_bytes(content)
    with pytest.raises(UnusableKeyError):
        load_or_make(file)
    assert file.read_bytes() == content


def _make(file: Path, barrier: Barrier, made: "multiprocessing.Queue[list[bytes]]") -> None:
    barrier.wait()
    made.put(load_or_make(file))


def test_processes_that_make_it_at_once_get_the_same_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(20):
        barrier = context.Barrier(4)
        made: multiprocessing.Queue[list[bytes]] = context.Queue()
        file = tmp_path / str(attempt)
        processes = [context.Process(target=_make, args=(file, barrier, made)) for _ in range(4)]
        for process in processes:
            process.start()
        keys_made = {made.get(timeout=30)[0] for _ in processes}
        for process in processes:
            process.join(30)
        assert keys_made == set(load_or_make(file))


# Kills itself right before or after one of the calls by which the file is made.
KILLED = """
import os, signal, sys
from pathlib import Path
from operator_api.vault.keys import load_or_make

when, name, file = sys.argv[1:]
real = getattr(os, name)

def killed(*arguments):
    if when == "after":
        real(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, name, killed)
load_or_make(Path(file))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", ["open", "fsync", "link"])
def test_a_killed_making_leaves_no_file_or_a_whole_one(
    tmp_path: Path, when: str, call: str
) -> None:
    file = tmp_path / "secret.key"
    killed = subprocess.run([sys.executable, "-c", KILLED, when, call, str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    there = parse_keys(file.read_text()) if file.exists() else None
    assert (there is not None) is ((when, call) == ("after", "link"))
    assert load_or_make(file) == (there or load_or_make(file))


def test_the_file_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    for name in ("fsync", "link"):
        monkeypatch.setattr(os, name, _noting(done, name, getattr(os, name)))
    load_or_make(tmp_path / "secret.key")
    assert done == ["fsync", "link", "fsync"]


def _noting(done: list[str], name: str, call: Callable[..., None]) -> Callable[..., None]:
    def noted(*arguments: object) -> None:
        done.append(name)
        call(*arguments)

    return noted
