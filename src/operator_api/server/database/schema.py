"""The tables, for Alembic and for readers. A test holds them equal to the migrations.

``tenant`` is one environment of one account. It is the first column of every key, so that no
query can reach another tenant's rows by leaving it out. Times are microseconds since 1970.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _where(condition: str) -> dict[str, Any]:
    """Index only the rows that can be asked for: the others cost a write for nothing."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


installation = Table(
    "installation",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("environment", Text, nullable=False),
    UniqueConstraint("account_id", "environment"),
)

# What seals an account's own, itself sealed by a key of the operator's. Without its row, nothing of
# the account's that was sealed can ever be read again.
data_keys = Table(
    "data_keys",
    metadata,
    Column("account_id", Text, ForeignKey("accounts.id"), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

# Who has looked into the sealed detail of a request, by the id of the request that asked for it.
# The tenant is that of the request looked at; it is null where nobody is known to have sent it.
reveals = Table(
    "reveals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", BigInteger, ForeignKey("tenants.id")),
    Column("request_id", Text, nullable=False),
    Column("token_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("why", Text),
    Index("reveals_by_request", "request_id"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("tenant", BigInteger, ForeignKey("tenants.id"), nullable=False),
    Column("id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    PrimaryKeyConstraint("tenant", "id"),
    sqlite_with_rowid=False,
)

users = Table(
    "users",
    metadata,
    Column("tenant", BigInteger, ForeignKey("tenants.id"), nullable=False),
    Column("id", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("email_key", Text, nullable=False),
    Column("name", Text),
    Column("phone", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    UniqueConstraint("tenant", "email_key"),
    Index("users_by_phone", "tenant", "phone", "id", **_where("phone IS NOT NULL")),
    sqlite_with_rowid=False,
)

user_tags = Table(
    "user_tags",
    metadata,
    Column("tenant", BigInteger, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "user_id", "tag"),
    ForeignKeyConstraint(["tenant", "user_id"], ["users.tenant", "users.id"], ondelete="CASCADE"),
    Index("user_tags_by_tag", "tenant", "tag", "user_id"),
    sqlite_with_rowid=False,
)

conversations = Table(
    "conversations",
    metadata,
    Column("tenant", BigInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("assignee", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    PrimaryKeyConstraint("tenant", "id"),
    ForeignKeyConstraint(["tenant", "user_id"], ["users.tenant", "users.id"], ondelete="CASCADE"),
    Index("conversations_by_user", "tenant", "user_id", "id"),
    Index(
        "conversations_by_assignee", "tenant", "assignee", "id", **_where("assignee IS NOT NULL")
    ),
    sqlite_with_rowid=False,
)

messages = Table(
    "messages",
    metadata,
    Column("tenant", BigInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("conversation_id", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "id"),
    ForeignKeyConstraint(
        ["tenant", "conversation_id"],
        ["conversations.tenant", "conversations.id"],
        ondelete="CASCADE",
    ),
    Index("messages_by_conversation", "tenant", "conversation_id", "id"),
    sqlite_with_rowid=False,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", BigInteger, ForeignKey("tenants.id"), nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "key"),
    Index("idempotency_keys_by_age", "created_at"),
    sqlite_with_rowid=False,
)
