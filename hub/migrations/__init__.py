"""The schema of the hub's database, version by version; may read every room's store, and only it.

Owns the revisions and the way to the newest one. Refuses a database that a newer hub has already changed.
"""

from hub.migrations.upgrade import MigrationError, current, newest, upgrade

__all__ = ["MigrationError", "current", "newest", "upgrade"]
