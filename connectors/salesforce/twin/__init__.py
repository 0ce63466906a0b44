"""A Salesforce of one's own: a server on this machine that answers as the real one does, and refuses as it does.

It keeps its state in one SQLite file, listens on loopback alone, and is told by its control port what is to go wrong.
"""

from connectors.salesforce.twin.server import Twin

__all__ = ["Twin"]
