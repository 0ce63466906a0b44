"""Face: pages for a browser. Logs people in and out, shows them who they are and the receipt of a record.

Owns the session's cookie, the rule for calls that carry it, and the pages. Refuses a call that another site's page
made, anything inline, and to answer programs: those use the API, which knows no cookie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hub.deferred import deferred

if TYPE_CHECKING:
    from hub.console.pages import add_to

__all__ = ["add_to"]

__getattr__ = deferred(__name__, {"add_to": "hub.console.pages"})
