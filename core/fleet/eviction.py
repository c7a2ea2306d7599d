"""What is remembered of a model that was taken out of memory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.fleet.release import Released


class Cause(StrEnum):
    """Why a model was evicted."""

    MEMORY = "memory"  # another model needed the room
    KEEP_ALIVE = "keep_alive"  # nobody had used it for so long
    OUT_OF_MEMORY = "out_of_memory"  # a device was full while another model was loading
    OVERDRAWN = "overdrawn"  # the models were seen to take more than they may


@dataclass(frozen=True, slots=True)
class Eviction:
    model: str
    at: datetime
    cause: Cause
    wanted_by: str | None  # the model that needed the room
    released: Released
