"""The first schema: accounts, tokens, users, conversations, messages, tags, idempotency keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# How many rows each index of a large store has, and how many share its first columns. Without it
# SQLite takes every tenant for a small one, and reads it all to find who has a phone number; what
# ANALYZE would find on a store that is still small would mislead it as much.
_STATISTICS = (
    ("users", "users", "1000000 100000 1"),
    ("users", "sqlite_autoindex_users_2", "1000000 100000 1"),
    ("users", "users_by_phone", "500000 50000 2 1"),
    ("user_tags", "user_tags", "2000000 200000 2 1"),
    ("user_tags", "user_tags_by_tag", "2000000 200000 2000 1"),
    ("conversations", "conversations", "2000000 200000 1"),
    ("conversations", "conversations_by_user", "2000000 200000 4 1"),
    ("conversations", "conversations_by_assignee", "1000000 100000 2000 1"),
    ("messages", "messages", "10000000 1000000 1"),
    ("messages", "messages_by_conversation", "10000000 1000000 5 1"),
)


def upgrade() -> None:
    """Create the tables."""
    _create_tables()
    if op.get_bind().dialect.name == "sqlite":
        op.execute("ANALYZE")  # which makes the table of statistics
        op.execute("DELETE FROM sqlite_stat1")
        row = sa.table("sqlite_stat1", sa.column("tbl"), sa.column("idx"), sa.column("stat"))
        names = ("tbl", "idx", "stat")
        op.bulk_insert(row, [dict(zip(names, each, strict=True)) for each in _STATISTICS])


def _create_tables() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "installation",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"],
            ["accounts.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "environment"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("tenant", "key"),
        sqlite_with_rowid=False,
    )
    op.create_index("idempotency_keys_by_age", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("tenant", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sa.UniqueConstraint("digest"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "users",
        sa.Column("tenant", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("phone", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant"],
            ["tenants.id"],
        ),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sa.UniqueConstraint("tenant", "email_key"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "users_by_phone",
        "users",
        ["tenant", "phone", "id"],
        sqlite_where=sa.text("phone IS NOT NULL"),
        postgresql_where=sa.text("phone IS NOT NULL"),
    )
    op.create_table(
        "conversations",
        sa.Column("tenant", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "conversations_by_assignee",
        "conversations",
        ["tenant", "assignee", "id"],
        sqlite_where=sa.text("assignee IS NOT NULL"),
        postgresql_where=sa.text("assignee IS NOT NULL"),
    )
    op.create_index(
        "conversations_by_user", "conversations", ["tenant", "user_id", "id"], unique=False
    )
    op.create_table(
        "user_tags",
        sa.Column("tenant", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "user_id"], ["users.tenant", "users.id"], ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant", "user_id", "tag"),
        sqlite_with_rowid=False,
    )
    op.create_index("user_tags_by_tag", "user_tags", ["tenant", "tag", "user_id"], unique=False)
    op.create_table(
        "messages",
        sa.Column("tenant", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "conversation_id"],
            ["conversations.tenant", "conversations.id"],
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("tenant", "id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "messages_by_conversation", "messages", ["tenant", "conversation_id", "id"], unique=False
    )
