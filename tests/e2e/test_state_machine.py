"""Whatever two accounts do, in any order, the server says what a simple model of it says."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.errors import assert_error
from tests.servers import Server

NAMES = st.none() | st.sampled_from(["Ada", "Grace", "Édith"])
TAGS = st.lists(st.sampled_from(["vip", "beta", "new"]), max_size=3)
# Few, and in two spellings, so that they are often taken.
EMAILS = st.sampled_from(
    ["ada@example.com", "ADA@example.com", "grace@example.com", "c@example.com"]
)
PHONES = st.none() | st.sampled_from(["+14155550123", "+14155550124"])
CHANNELS = st.sampled_from(["web", "email", "api"])
ACCOUNTS = st.sampled_from([0, 1])
INDEX = st.integers(0, 7)


@dataclass
class Account:
    """What one account must have, by id, each as the API shows it."""

    client: httpx2.Client
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    conversations: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)

    def owner_of(self, email: str) -> str | None:
        """Return the user that has the email, however it is spelt."""
        found = [u["id"] for u in self.users.values() if u["email"].lower() == email.lower()]
        return found[0] if found else None

    def all_messages(self, conversation: str) -> list[dict[str, Any]]:
        return [m for m in self.messages.values() if m["conversation_id"] == conversation]

    def forget(self, user: str) -> None:
        """Delete a user, with all that hangs on it."""
        del self.users[user], self.versions[user]
        gone = [c for c, each in self.conversations.items() if each["user_id"] == user]
        for conversation in gone:
            del self.conversations[conversation]
            for message in self.all_messages(conversation):
                del self.messages[message["id"]]


def pick(records: dict[str, Any], index: int) -> str:
    return sorted(records)[index % len(records)]


def newest_first(records: Any) -> list[dict[str, Any]]:
    return sorted(records, key=lambda record: record["id"], reverse=True)


class TwoAccounts(RuleBasedStateMachine):
    """Each rule does something on both sides, and compares."""

    server: Server
    clients: Sequence[httpx2.Client]
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.accounts = [Account(client) for client in self.clients]

    def teardown(self) -> None:
        """Delete everything, for the next example to begin with nothing."""
        for account in self.accounts:
            for user in self._all(account, "/v1/users", 100):
                assert account.client.delete(f"/v1/users/{user['id']}").status_code == 200
            for path in ("/v1/users", "/v1/conversations", "/v1/tags"):
                assert self._all(account, path, 100) == []

    @initialize()
    def begin_with_something(self) -> None:
        """Give each account one of each kind, so that every rule has something to work on."""
        for which in (0, 1):
            self.create_user(which, "ada@example.com", None, None, [])
            self.create_conversation(which, 0, "web", None)
            self.create_message(which, 0, "Hello")
            self.create_token(which)

    def _has(self, what: str) -> bool:
        return any(getattr(account, what) for account in self.accounts)

    def _with(self, what: str, which: int) -> Account:
        """Return the account that was chosen, or the other one where only that has any."""
        chosen, other = self.accounts[which], self.accounts[1 - which]
        return chosen if getattr(chosen, what) else other

    def _send(self, account: Account, method: str, path: str, body: Any = None) -> httpx2.Response:
        """Send a write twice under one key: the second must be the first one's answer."""
        headers = {"Idempotency-Key": f"machine-{next(self.numbers)}"}
        first = account.client.request(method, path, json=body, headers=headers)
        again = account.client.request(method, path, json=body, headers=headers)
        assert again.status_code == first.status_code
        if first.is_success:
            assert again.content == first.content
            assert again.headers["idempotent-replayed"] == "true"
        return first

    # --- users

    @rule(which=ACCOUNTS, email=EMAILS, name=NAMES, phone=PHONES, tags=TAGS)
    def create_user(
        self, which: int, email: str, name: str | None, phone: str | None, tags: list[str]
    ) -> None:
        account = self.accounts[which]
        body = {"email": email, "name": name, "phone": phone, "tags": tags}
        taken = account.owner_of(email)
        answer = self._send(account, "POST", "/v1/users", body)
        if taken:
            error = assert_error(answer, 409, "already_exists")
            assert error["metadata"]["existing_id"] == taken
            return
        assert answer.status_code == 201
        user = answer.json()
        assert shown(user) == expected(body)
        self._keep(account, answer, version=1)

    def _keep(self, account: Account, answer: httpx2.Response, version: int) -> None:
        user = answer.json()
        assert answer.headers["etag"] == f'"{version}"'
        account.users[user["id"]] = user
        account.versions[user["id"]] = version

    @precondition(lambda self: self._has("users"))
    @rule(
        which=ACCOUNTS,
        index=INDEX,
        changes=st.fixed_dictionaries(
            {}, optional={"email": EMAILS, "name": NAMES, "phone": PHONES, "tags": TAGS}
        ),
        if_match=st.sampled_from(["current", "other", None]),
    )
    def patch_user(
        self, which: int, index: int, changes: dict[str, Any], if_match: str | None
    ) -> None:
        account = self._with("users", which)
        user = pick(account.users, index)
        version = account.versions[user]
        headers = {"If-Match": f'"{version + (if_match == "other")}"'} if if_match else {}
        answer = account.client.patch(f"/v1/users/{user}", json=changes, headers=headers)
        if if_match == "other":
            assert_error(answer, 412, "precondition_failed")
        elif account.owner_of(changes.get("email", "")) not in {None, user}:
            assert_error(answer, 409, "already_exists")
        else:
            assert answer.status_code == 200
            assert shown(answer.json()) == expected({**account.users[user], **changes})
            self._keep(account, answer, version + 1)

    @precondition(lambda self: self._has("users"))
    @rule(which=ACCOUNTS, index=INDEX, email=EMAILS, name=NAMES)
    def replace_user(self, which: int, index: int, email: str, name: str | None) -> None:
        account = self._with("users", which)
        user = pick(account.users, index)
        body = {"email": email, "name": name}
        answer = self._send(account, "PUT", f"/v1/users/{user}", body)
        if account.owner_of(email) not in {None, user}:
            assert_error(answer, 409, "already_exists")
        else:
            assert answer.status_code == 200
            assert shown(answer.json()) == expected(body)
            self._keep(account, answer, account.versions[user] + 1)

    @precondition(lambda self: self._has("users"))
    @rule(which=ACCOUNTS, index=INDEX)
    def delete_user(self, which: int, index: int) -> None:
        account = self._with("users", which)
        user = pick(account.users, index)
        answer = self._send(account, "DELETE", f"/v1/users/{user}")
        assert answer.json() == {"id": user, "deleted": True}
        assert_error(account.client.get(f"/v1/users/{user}"), 404, "resource_not_found")
        account.forget(user)

    @precondition(lambda self: self._has("users"))
    @rule(which=ACCOUNTS, index=INDEX, tag=st.sampled_from(["vip", "beta", "late"]))
    def tag_user(self, which: int, index: int, tag: str) -> None:
        account = self._with("users", which)
        user = pick(account.users, index)
        answer = self._send(account, "POST", "/v1/tags", {"user_id": user, "tag": tag})
        assert answer.status_code == 201
        assert (answer.json()["user_id"], answer.json()["tag"]) == (user, tag)
        had = tag in account.users[user]["tags"]
        now = account.client.get(f"/v1/users/{user}")
        assert now.json()["tags"] == sorted({*account.users[user]["tags"], tag})
        self._keep(account, now, account.versions[user] + (not had))

    # --- conversations

    @precondition(lambda self: self._has("users"))
    @rule(which=ACCOUNTS, index=INDEX, channel=CHANNELS, assignee=NAMES)
    def create_conversation(
        self, which: int, index: int, channel: str, assignee: str | None
    ) -> None:
        account = self._with("users", which)
        user = pick(account.users, index)
        body = {"user_id": user, "channel": channel, "assignee": assignee}
        answer = self._send(account, "POST", "/v1/conversations", body)
        assert answer.status_code == 201
        conversation = answer.json()
        assert body.items() <= conversation.items()
        assert (conversation["status"], conversation["closed_at"]) == ("open", None)
        account.conversations[conversation["id"]] = conversation

    @precondition(lambda self: self._has("conversations"))
    @rule(which=ACCOUNTS, index=INDEX, text=st.text("añ\n😀", min_size=1).filter(str.strip))
    def create_message(self, which: int, index: int, text: str) -> None:
        account = self._with("conversations", which)
        conversation = pick(account.conversations, index)
        body = {"conversation_id": conversation, "type": "agent", "message": text}
        answer = self._send(account, "POST", "/v1/messages", body)
        if account.conversations[conversation]["closed_at"]:
            assert_error(answer, 409, "conversation_closed")
            return
        assert answer.status_code == 201
        message = answer.json()
        assert body.items() <= message.items()
        account.messages[message["id"]] = message

    @precondition(lambda self: self._has("conversations"))
    @rule(which=ACCOUNTS, index=INDEX, assignee=NAMES, closes=st.booleans())
    def change_conversation(
        self, which: int, index: int, assignee: str | None, closes: bool
    ) -> None:
        account = self._with("conversations", which)
        conversation = account.conversations[pick(account.conversations, index)]
        path = f"/v1/conversations/{conversation['id']}"
        if closes:
            answer = self._send(account, "POST", f"{path}/close")
        else:
            answer = self._send(account, "POST", f"{path}/assign", {"assignee": assignee})
        if conversation["closed_at"]:
            assert_error(answer, 409, "conversation_closed")
            return
        changed = answer.json()
        if closes:
            assert changed["closed_at"] >= conversation["started_at"]
            expected_change = {"status": "closed", "closed_at": changed["closed_at"]}
        else:
            expected_change = {"assignee": assignee}
        assert changed == {**conversation, **expected_change}
        account.conversations[conversation["id"]] = changed

    # --- tokens

    @rule(which=ACCOUNTS)
    def create_token(self, which: int) -> None:
        account = self.accounts[which]
        body = {"name": "of the machine", "preset": "read-only"}
        made = self._send(account, "POST", "/v1/tokens", body).json()
        account.tokens[made["id"]] = made["token"]

    @precondition(lambda self: self._has("tokens"))
    @rule(which=ACCOUNTS, index=INDEX)
    def revoke_token(self, which: int, index: int) -> None:
        account = self._with("tokens", which)
        token = pick(account.tokens, index)
        answer = self._send(account, "DELETE", f"/v1/tokens/{token}")
        assert answer.json() == {"id": token, "deleted": True}
        account.revoked[token] = account.tokens.pop(token)

    @precondition(lambda self: self._has("tokens"))
    @rule(which=ACCOUNTS, index=INDEX, overlap=st.sampled_from([0, 3600]))
    def rotate_token(self, which: int, index: int, overlap: int) -> None:
        account = self._with("tokens", which)
        token = pick(account.tokens, index)
        body = {"overlap_seconds": overlap}
        answer = self._send(account, "POST", f"/v1/tokens/{token}/rotate", body)
        made = answer.json()
        assert made["replaces"] == token
        account.tokens[made["id"]] = made["token"]
        if overlap == 0:
            with self.server.client(account.tokens.pop(token)) as client:
                assert_error(client.get("/v1/me"), 401, "expired_token")

    @precondition(lambda self: self._has("tokens") or self._has("revoked"))
    @rule(which=ACCOUNTS)
    def use_tokens(self, which: int) -> None:
        account = self.accounts[which]
        for token in account.tokens.values():
            with self.server.client(token) as client:
                assert client.get("/v1/users").json() == account.client.get("/v1/users").json()
                assert_error(client.post("/v1/users", json={}), 403, "insufficient_scope")
        for token in account.revoked.values():
            with self.server.client(token) as client:
                assert_error(client.get("/v1/me"), 401, "revoked_token")

    # --- what each account sees

    @rule(which=ACCOUNTS, limit=st.sampled_from([1, 2, 100]))
    def compare_lists(self, which: int, limit: int) -> None:
        account = self.accounts[which]
        assert self._all(account, "/v1/users", limit) == newest_first(account.users.values())
        conversations = newest_first(account.conversations.values())
        assert self._all(account, "/v1/conversations", limit) == conversations
        for conversation in account.conversations:
            listed = self._all(account, f"/v1/conversations/{conversation}/messages", limit)
            assert listed == newest_first(account.all_messages(conversation))
        tags = [tag for user in account.users.values() for tag in user["tags"]]
        counted = [{"tag": tag, "count": tags.count(tag)} for tag in sorted(set(tags))]
        assert self._all(account, "/v1/tags", limit) == counted

    def _all(self, account: Account, path: str, limit: int) -> list[dict[str, Any]]:
        """Read every page of a list."""
        items: list[dict[str, Any]] = []
        params: dict[str, str] = {"limit": str(limit)}
        while True:
            page = account.client.get(path, params=params).json()
            assert len(page["data"]) <= limit
            assert page["has_more"] is (page["next_cursor"] is not None)
            items += page["data"]
            if not page["has_more"]:
                return items
            params["cursor"] = page["next_cursor"]

    @rule(which=ACCOUNTS, index=INDEX)
    def compare_records(self, which: int, index: int) -> None:
        account = self.accounts[which]
        for kind in ("users", "conversations", "messages"):
            records = getattr(account, kind)
            if records:
                record = records[pick(records, index)]
                assert account.client.get(f"/v1/{kind}/{record['id']}").json() == record

    @rule(which=ACCOUNTS, index=INDEX)
    def reach_for_what_is_the_others(self, which: int, index: int) -> None:
        mine, theirs = self.accounts[which], self.accounts[1 - which]
        for method, path, body in self._reaches(theirs, index):
            answer = mine.client.request(method, path, json=body)
            assert_error(answer, 404, "resource_not_found")
        for path, body in self._references(theirs, index):
            answer = mine.client.post(path, json=body)
            error = assert_error(answer, 422, "validation_failed")
            assert error["errors"][0]["reason"] == "not_found"
        self.compare_records(1 - which, index)

    def _reaches(self, theirs: Account, index: int) -> list[tuple[str, str, Any]]:
        reaches: list[tuple[str, str, Any]] = []
        if theirs.users:
            path = f"/v1/users/{pick(theirs.users, index)}"
            reaches += [("GET", path, None), ("PATCH", path, {}), ("DELETE", path, None)]
            reaches.append(("PUT", path, {"email": "theirs@example.com"}))
        if theirs.conversations:
            path = f"/v1/conversations/{pick(theirs.conversations, index)}"
            reaches += [("GET", path, None), ("GET", f"{path}/messages", None)]
            reaches += [("POST", f"{path}/assign", {"assignee": "me"})]
            reaches += [("POST", f"{path}/close", None)]
        if theirs.messages:
            reaches.append(("GET", f"/v1/messages/{pick(theirs.messages, index)}", None))
        if theirs.tokens:
            path = f"/v1/tokens/{pick(theirs.tokens, index)}"
            reaches += [("DELETE", path, None), ("POST", f"{path}/rotate", None)]
        return reaches

    def _references(self, theirs: Account, index: int) -> list[tuple[str, Any]]:
        references: list[tuple[str, Any]] = []
        if theirs.users:
            user = pick(theirs.users, index)
            references.append(("/v1/conversations", {"user_id": user, "channel": "web"}))
            references.append(("/v1/tags", {"user_id": user, "tag": "mine"}))
        if theirs.conversations:
            conversation = pick(theirs.conversations, index)
            message = {"conversation_id": conversation, "type": "user", "message": "hello"}
            references.append(("/v1/messages", message))
        return references


def shown(user: dict[str, Any]) -> dict[str, Any]:
    """What a user shows of what was sent."""
    return {name: user[name] for name in ("email", "name", "phone", "tags")}


def expected(body: dict[str, Any]) -> dict[str, Any]:
    """What must be shown of what was sent."""
    return {
        "email": body["email"],
        "name": body.get("name"),
        "phone": body.get("phone"),
        "tags": sorted(set(body.get("tags", []))),
    }


def test_two_accounts_that_do_whatever_they_like(server: Server) -> None:
    class Machine(TwoAccounts):
        pass

    with new_account(server, "machine-a") as one, new_account(server, "machine-b") as other:
        Machine.server, Machine.clients = server, [one, other]
        # With CI set, Hypothesis takes the same examples each time; elsewhere it looks for new
        # ones. Either way it prints the steps of what failed.
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=15,
                stateful_step_count=30,
                deadline=None,
                # A failure is shown as it was found: to shrink it would take minutes.
                phases=set(Phase) - {Phase.shrink, Phase.explain},
                suppress_health_check=list(HealthCheck),  # each step is several requests
            ),
        )


def new_account(server: Server, name: str) -> httpx2.Client:
    """Make an account, and return a client with an admin token of its test environment."""
    server.cli("accounts", "create", name)
    options = ["--account", name, "--environment", "test", "--name", "t", "--preset", "admin"]
    return server.client(server.cli("tokens", "create", *options)["token"])
