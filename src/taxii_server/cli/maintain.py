"""`maintain`: the upkeep that a timer runs."""

from __future__ import annotations

from taxii_server.cli import context, output
from taxii_server.operations import maintenance
from taxii_server.operations.maintenance import Maintained
from taxii_server.storage.engine import Database


def maintain(json: output.AsJson = False) -> None:
    """Purge old statuses, signing keys and revoked tokens, remove what collections no longer keep, replace a key past its time.

    Run it by a timer, every hour, say; a second run at the same time does nothing.
    """
    with context.place() as here:
        here.need_schema()

        async def upkeep(db: Database) -> Maintained:
            return await maintenance.maintain(db, status_keep=here.settings.status_keep, keys=here.signing_keys(db))

        done = here.run(upkeep)
    if json:
        output.as_json(done)
    elif not done.ran:
        print("Another maintain is running; nothing to do.")
    else:
        print(f"{done.statuses} statuses purged.")
        for collection, removed in done.expired.items():
            print(f"{collection}: {removed} versions past its retention removed.")
        if done.old_signing_keys:
            print(f"{done.old_signing_keys} old signing keys purged.")
        if done.revoked_tokens:
            print(f"{done.revoked_tokens} revoked tokens that have expired purged.")
