"""What each member stores in each collection, counted by the database itself; and a member's quota.

Triggers, so that the sums stay right while servers of the release before go on, and whichever way versions come and go.
Their function runs as the owner: the server's role can read the sums and no more. Additions wait while what is stored is
counted once: about a second for half a million versions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COUNT = """
    CREATE FUNCTION count_stored_octets() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO public.stored_octets AS kept (collection_id, member, versions, octets)
            SELECT collection_id, member, count(*), sum(body_bytes) FROM changed GROUP BY collection_id, member
                ON CONFLICT (collection_id, member)
                DO UPDATE SET versions = kept.versions + excluded.versions, octets = kept.octets + excluded.octets;
        ELSE
            UPDATE public.stored_octets AS kept
               SET versions = kept.versions - gone.versions, octets = kept.octets - gone.octets
              FROM (SELECT collection_id, member, count(*) AS versions, sum(body_bytes) AS octets
                      FROM changed
                     GROUP BY collection_id, member) AS gone
             WHERE kept.collection_id = gone.collection_id AND kept.member = gone.member;
        END IF;
        RETURN NULL;
    END
    $$
"""


def upgrade() -> None:
    op.add_column("members", sa.Column("quota", sa.BigInteger(), nullable=True))
    op.create_check_constraint("ck_members_quota", "members", "quota > 0")
    op.create_table(
        "stored_octets",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("versions", sa.BigInteger(), nullable=False),
        sa.Column("octets", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name="fk_stored_octets_collection_id_collections",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", "member", name="pk_stored_octets"),
    )
    op.create_index("ix_stored_octets_member", "stored_octets", ["member"])
    op.execute("GRANT SELECT ON stored_octets TO taxii_server")
    op.execute(COUNT)
    op.execute("REVOKE ALL ON FUNCTION count_stored_octets() FROM PUBLIC")
    # these lock the table against additions and removals until this commits, so nothing is counted twice or not at all
    op.execute("""
        CREATE TRIGGER count_added AFTER INSERT ON object_versions REFERENCING NEW TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION count_stored_octets()
    """)
    op.execute("""
        CREATE TRIGGER count_removed AFTER DELETE ON object_versions REFERENCING OLD TABLE AS changed
        FOR EACH STATEMENT EXECUTE FUNCTION count_stored_octets()
    """)
    op.execute("""
        INSERT INTO stored_octets (collection_id, member, versions, octets)
        SELECT collection_id, member, count(*), sum(body_bytes) FROM object_versions GROUP BY collection_id, member
    """)
