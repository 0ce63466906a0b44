"""Records as subjects of the trail: who dealt with one, and its erasure."""

from hub.runs.subjects.asking import Touch, touches
from hub.runs.subjects.erasing import Erased, erase, subject_of

__all__ = ["Erased", "Touch", "erase", "subject_of", "touches"]
