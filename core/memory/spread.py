"""A model that no GPU holds alone: how many of its layers go to each of several.

Whole layers are handed out, so that the load can be told exactly what was promised. All that is in no layer (the table
of the vocabulary, the head) goes to the first GPU. As few GPUs as will do are taken, those with the most room, and of
these each is filled to the same degree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.memory.keyvalues import cache_of, context_of
from core.memory.need import devices_of, needs_of
from core.memory.overhead import activation_bytes, context_bytes
from core.memory.weights import item_bytes, weight_bytes
from core.settings import Settings
from core.types import Inspection, Need, Runtime, Task


@dataclass(frozen=True, slots=True)
class Spread:
    layers: Mapping[str, int]  # by device, in the order of their numbers
    needs: tuple[Need, ...]  # of each of these devices, and of the host

    @property
    def device(self) -> str:
        """All of them, as they are shown: cuda:0+cuda:1."""
        return "+".join(self.layers)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Bytes of a model on GPUs."""

    count: int  # layers
    layer: int  # weights of one
    cache: int  # keys and values of one, of all answers at once
    rest: int  # weights in no layer
    activations: int  # of a pass, on each GPU
    context: int  # of each GPU

    def fitting(self, room: int, *, is_first: bool) -> int:
        """Layers that a GPU with so many bytes holds; less than 0 where it does not hold even what is beside them."""
        left = room - self.activations - self.context - (self.rest if is_first else 0)
        return left // (self.layer + self.cache)

    def need(self, device: str, layers: int, *, is_first: bool) -> Need:
        return Need(
            device,
            weights=layers * self.layer + (self.rest if is_first else 0),
            cache=layers * self.cache,
            activations=self.activations,
            overhead=self.context,
        )


def spread(inspection: Inspection, settings: Settings, rooms: Mapping[str, int]) -> Spread | None:
    """Over the GPUs of `rooms`, bytes by device; None where they do not hold it together, or it cannot be split."""
    gpus = devices_of(inspection, settings, [device for device in rooms if device != "cpu"])
    splits = inspection.runtime is Runtime.TRANSFORMERS and inspection.tasks[0] is Task.TEXT_GENERATION
    if not splits or inspection.anatomy.layers < 2 or len(gpus) < 2:
        return None
    parts = _parts(inspection, settings, gpus[0])
    able = [gpu for gpu in gpus if parts.fitting(rooms[gpu], is_first=False) > 0]
    roomiest = sorted(able, key=lambda gpu: -rooms[gpu])
    for count in range(2, len(able) + 1):
        chosen = sorted(roomiest[:count], key=_number)
        most = [parts.fitting(rooms[gpu], is_first=gpu == chosen[0]) for gpu in chosen]
        if min(most) >= 0 and sum(most) >= parts.count:
            layers = {gpu: given for gpu, given in zip(chosen, _shares(parts.count, most), strict=True) if given}
            host = needs_of(inspection, settings, gpus[0])[1]
            if chosen[0] not in layers:  # it has the rest and no layer
                layers = {chosen[0]: 0, **layers}
            needs = (parts.need(gpu, given, is_first=gpu == chosen[0]) for gpu, given in layers.items())
            return Spread(layers, (*needs, host))
    return None


def _parts(inspection: Inspection, settings: Settings, device: str) -> _Parts:
    anatomy, number = inspection.anatomy, item_bytes(inspection, device)
    count = anatomy.layers
    weights = weight_bytes(inspection, inspection.spec.quantization, number)
    cache = cache_of(inspection, number, settings.max_sequences, settings.max_cached_tokens).total
    tables = min(anatomy.floats - anatomy.linear, 2 * anatomy.vocabulary * anatomy.hidden)
    layer = -(-max(0, weights - tables * number) // count)
    return _Parts(
        count=count,
        layer=layer,
        cache=-(-cache // count),
        rest=max(0, weights - layer * count),
        activations=activation_bytes(inspection, device, number, settings.max_sequences, context_of(inspection)),
        context=context_bytes(inspection),
    )


def _shares(count: int, most: list[int]) -> list[int]:
    """`count` handed out in proportion to `most`, and to none more than that."""
    total = sum(most)
    shares = [count * each // total for each in most]
    for index, each in enumerate(most):
        shares[index] += min(each - shares[index], count - sum(shares))
    return shares


def _number(gpu: str) -> int:
    return int(gpu.partition(":")[2] or 0)
