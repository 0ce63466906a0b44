"""Machine-learning models: versions with their signatures, aliases, and the scorers that carry them out.

Owns registration with its proof, the sealed artefacts, aliases and their rollback, predictions and reasons. Refuses
pickles and whatever runs code when read, types that are not on its list, versions that cannot be shown to equal the
estimator they came from, and removal of a version in use. Knows nothing of mappings: titles are theirs.
"""

from typing import TYPE_CHECKING

from hub.deferred import deferred
from hub.models.types import (
    ArtefactError,
    FeaturesError,
    InputField,
    ModelError,
    ModelInUseError,
    ModelNotFoundError,
    ModelRefusedError,
    ModelVersion,
    SampleError,
    Signature,
    Task,
    Way,
)

if TYPE_CHECKING:
    from hub.models.registry import Registry, register
    from hub.models.scorer import Scorer

__all__ = [
    "ArtefactError",
    "FeaturesError",
    "InputField",
    "ModelError",
    "ModelInUseError",
    "ModelNotFoundError",
    "ModelRefusedError",
    "ModelVersion",
    "Registry",
    "SampleError",
    "Scorer",
    "Signature",
    "Task",
    "Way",
    "register",
]

__getattr__ = deferred(
    __name__,
    {
        "Gathering": "hub.models.gathering",
        "Registry": "hub.models.registry",
        "Scorer": "hub.models.scorer",
        "register": "hub.models.registry",
    },
)
