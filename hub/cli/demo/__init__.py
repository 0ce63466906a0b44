"""`hub demo`: the main job on a small clinic, every step by the command a user would type, every claim checked."""

from hub.cli.demo.verb import add_to

__all__ = ["add_to"]
