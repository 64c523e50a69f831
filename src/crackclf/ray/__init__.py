"""Work on a Ray cluster, and models that other systems can carry to their machines."""

from typing import TYPE_CHECKING, Any

from crackclf.ray.carried import Inspector, Predictor

if TYPE_CHECKING:
    from crackclf.ray.answers import map_images

__all__ = ["Inspector", "Predictor", "map_images"]


def __getattr__(name: str) -> Any:
    if name != "map_images":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from crackclf.ray.answers import map_images  # Needs Ray, which the others do not.

    return map_images
