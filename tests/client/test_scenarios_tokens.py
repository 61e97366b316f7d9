"""Tokens: asked for once, and once more when they are refused; never shown."""

import time
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from operator_api.client import (
    AsyncOperatorAI,
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
)
from tests.client.both import BOTH, Kind, create, errors_of, me
from tests.faulty import Answers, answering, tokens_seen

OLD, NEW = "op_test_" + "1" * 49, "op_test_" + "2" * 49


class Vault:
    """Gives tokens, one after the other; the last one again and again."""

    def __init__(self, *tokens: str, seconds: float = 0.0) -> None:
        self._tokens = list(tokens)
        self._seconds = seconds
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        time.sleep(self._seconds)
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]


@BOTH
async def test_fifty_refusals_at_once_ask_for_one_token(kind: Kind) -> None:
    vault = Vault(OLD, NEW, seconds=0.05)
    answers = Answers(tokens={OLD})
    with answering(answers=answers) as server:
        async with kind.open(server.url, api_key=vault) as client:
            await client.do(me)
            answers.tokens = {NEW}
            assert not errors_of(await client.all([me] * 50))
            assert vault.asked == 2
            refused = [seen for seen in server.seen if seen.answered == 401]
            assert {seen.token for seen in refused} == {OLD}
            assert len(server.seen) == 1 + 50 + len(refused)


@BOTH
async def test_many_that_start_together_ask_once(kind: Kind) -> None:
    vault = Vault(NEW, seconds=0.05)
    with answering() as server:
        async with kind.open(server.url, api_key=vault) as client:
            assert not errors_of(await client.all([me] * 50))
            assert vault.asked == 1


@BOTH
async def test_the_same_token_again_is_not_tried_again(kind: Kind) -> None:
    vault = Vault(OLD)
    with answering(answers=Answers(tokens={NEW})) as server:
        async with kind.open(server.url, api_key=vault) as client:
            error = await client.fails(create)
            assert type(error) is AuthenticationError
            assert (error.attempts, error.outcome) == (1, "not_executed")
            assert vault.asked == 2
            assert len(server.seen) == 1


@BOTH
async def test_another_token_is_tried_once(kind: Kind) -> None:
    vault = Vault(OLD, NEW, "op_test_third")
    with answering(answers=Answers(tokens={"op_test_third"})) as server:
        async with kind.open(server.url, api_key=vault) as client:
            error = await client.fails(create)
            assert type(error) is AuthenticationError
            assert (error.attempts, vault.asked) == (2, 2)
            assert len(server.seen) == 2
            # The next call begins with the token that was refused last, and asks.
            await client.do(create)


@BOTH
async def test_a_fixed_token_is_not_tried_again(kind: Kind) -> None:
    with answering(answers=Answers(tokens={NEW})) as server:
        async with kind.open(server.url, api_key=OLD) as client:
            error = await client.fails(create)
            assert error.attempts == 1
            assert len(server.seen) == 1


@BOTH
async def test_the_key_and_body_stay_when_the_token_changes(kind: Kind) -> None:
    answers = Answers(tokens={NEW})
    with answering(answers=answers) as server:
        async with kind.open(server.url, api_key=Vault(OLD, NEW), max_retries=0) as client:
            await client.do(create)
            first, second = server.seen
            assert (first.key, first.body) == (second.key, second.body)
            assert (first.token, second.token) == (OLD, NEW)


class NoTokenError(Exception):
    pass


@BOTH
async def test_what_a_function_raises_is_raised(kind: Kind, tmp_path: Path) -> None:
    given = iter([OLD])

    def vault() -> str:
        token = next(given, None)
        if token is None:
            raise NoTokenError
        return token

    file = tmp_path / "failures"
    with answering(answers=Answers(tokens={NEW})) as server:
        async with kind.open(server.url, api_key=vault, failure_log=file) as client:
            for _ in range(3):
                with pytest.raises(NoTokenError):
                    await client.do(create)
    # Each attempt is on record, as it was refused; and nothing keeps the others waiting.
    records = file.read_text().splitlines()
    assert ["invalid_token" in each for each in records] == [True] * 3


@BOTH
@pytest.mark.parametrize("token", ["", "two words", "new\nline", "ü", None, 5])
async def test_what_is_no_token_is_refused_and_not_shown(kind: Kind, token: Any) -> None:
    with answering() as server:
        async with kind.open(server.url, api_key=lambda: token) as client:
            with pytest.raises(ConfigurationError) as raised:
                await client.do(me)
            assert server.seen == ()
            assert not token or str(token) not in str(raised.value)


async def test_a_coroutine_function_gives_tokens() -> None:
    async def vault() -> str:
        await anyio.lowlevel.checkpoint()
        return NEW

    with answering(answers=Answers(tokens={NEW})) as server:
        async with AsyncOperatorAI(base_url=server.url, api_key=vault) as client:
            assert (await client.me.get()).environment == "test"


@BOTH
async def test_public_operations_need_no_token(kind: Kind) -> None:
    with answering() as server:
        async with kind.open(server.url, api_key=Vault(NEW)) as client:
            assert isinstance(await client.fails(lambda api: api.service.live()), NotFoundError)
            assert tokens_seen(server.seen) == set()
