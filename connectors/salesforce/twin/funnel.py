"""Leads that come, are worked on and end: a noisy process with something to learn in it, the same for the same seed.

Whether a lead converts is a logistic draw over what is known of it (source, industry, size, contact, whether its
company buys already) and over an interest that nobody sees, which shows in how often it is worked on. How long it stays
open is drawn by its outcome. An open lead is one whose end lies in the future, a past one has ended already: both come
from the same process, so what is learnt of the past holds for the open ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

SOURCES = {"Web": 0.3, "Phone Inquiry": 0.7, "Partner Referral": 1.3, "Purchased List": -1.3, None: -0.3}
INDUSTRIES = {"Banking": 0.5, "Energy": -0.2, "Retail": -0.7, "Technology": 0.8, "Healthcare": 0.2, None: -0.4}
TITLES = {"CEO": 0.9, "Head of Sales": 0.7, "IT Manager": 0.4, "Buyer": 0.0, "Assistant": -0.8, None: -0.2}
"""What each adds to the logit of converting."""

_RARE = -2.0
"""The logit where nothing else is known: about one lead in eight."""
_OLDEST_OPEN, _OLDEST_PAST, _YOUNGEST_PAST = 110, 900, 130
_MOST_ACTIVITIES = 12


@dataclass(frozen=True, slots=True)
class Course:
    """What becomes of one lead: days since it came, since it ended and since each activity; the newest last."""

    source: str | None
    industry: str | None
    title: str | None
    size: int | None
    customer: bool
    came: int
    ended: int | None
    """None while it is open."""
    converted: bool
    activities: tuple[int, ...]


def open_course(chance: random.Random) -> Course:
    """One that has not ended yet."""
    while True:
        made = _course(chance, chance.randrange(1, _OLDEST_OPEN))
        if made.ended is None:
            return made


def past_course(chance: random.Random) -> Course:
    """One whose outcome is known."""
    while True:
        made = _course(chance, chance.randrange(_YOUNGEST_PAST, _OLDEST_PAST))
        if made.ended is not None:
            return made


def _course(chance: random.Random, came: int) -> Course:
    source, industry, title = (chance.choice(list(each)) for each in (SOURCES, INDUSTRIES, TITLES))
    size = int(chance.lognormvariate(4, 1.4)) + 1 if chance.random() < 0.9 else None
    customer = chance.random() < 0.2
    interest = chance.gauss(0, 1)
    logit = _RARE + SOURCES[source] + INDUSTRIES[industry] + TITLES[title] + 0.9 * interest
    logit += 0.4 * (math.log(size) - 4) if size is not None else -0.3
    logit += 1.2 if customer else 0.0
    converts = chance.random() < 1 / (1 + math.exp(-logit))
    life = math.ceil(chance.lognormvariate(math.log(30 if converts else 75), 0.5))
    worked = life if converts else math.ceil(life * chance.uniform(0.3, 1))
    activities = _activities(chance, 11 * math.exp(-0.6 * interest), min(came - 1, worked))
    done = life < came
    return Course(
        source=source,
        industry=industry,
        title=title,
        size=size,
        customer=customer,
        came=came,
        ended=came - life if done else None,
        converted=converts and done,
        activities=tuple(came - each for each in activities),
    )


def _activities(chance: random.Random, gap: float, until: int) -> Sequence[int]:
    """Days after the lead came on which somebody worked on it, on average `gap` days apart."""
    made: list[int] = []
    at = chance.expovariate(1 / gap)
    while at <= until and len(made) < _MOST_ACTIVITIES:
        made.append(int(at))
        at += chance.expovariate(1 / gap)
    return made
