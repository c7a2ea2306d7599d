"""How much conversations may hold of images: each in number, those of one owner together in bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.errors import ImageQuotaExceeded, InvalidRequest

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageLimits:
    per_conversation: int  # images
    bytes_per_owner: int

    def check_conversation(self, held: int, given: int) -> None:
        """Raises InvalidRequest unless a conversation of `held` images takes `given` more."""
        if held + given > self.per_conversation:
            raise InvalidRequest(
                f"This conversation holds {held} images, and one may hold {self.per_conversation}. Begin a new one."
            )

    def check_owner(self, held: Mapping[tuple[str, str], int], given: Mapping[tuple[str, str], int]) -> None:
        """Bytes by file. Raises ImageQuotaExceeded unless the owner of those `held` may have those `given` too."""
        if sum({**held, **given}.values()) <= self.bytes_per_owner or given.keys() <= held.keys():
            return
        raise ImageQuotaExceeded(
            f"Your conversations hold images of {sum(held.values()) / _MIB:,.1f} MiB, and together they may hold "
            f"{self.bytes_per_owner / _MIB:,.1f} MiB: there is no room for more. Delete conversations with images "
            "that you no longer need, then send again; whoever runs this server can raise BERTH_MAX_STORED_IMAGES_MB."
        )
