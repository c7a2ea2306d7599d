"""Which model a client of this dialect means. Some must send a name and have none; some write more than the name."""

from core.core import Core
from core.errors import ModelNotFound
from core.fleet.record import Record
from core.hub.source import split_variant

# what huggingface_hub, TGI's clients and others send when nobody has chosen a model
_NOBODY = frozenset(("", "dummy", "tgi", "default", "default/not-specified"))


def model_meant(core: Core, said: str | None) -> str | None:
    """The name of the model, None for the default. Raises ModelNotFound where it is here otherwise than was said."""
    if said is None or core.knows(said):
        return said
    name = said.removesuffix(":latest")
    if name in _NOBODY:
        return None
    if core.knows(name):
        return name
    for separator, agrees in (("@", _is_revision), (":", _is_variant)):
        base, _, more = name.rpartition(separator)
        if base and core.knows(base):
            record = core.registry.find(base)
            if record is None or agrees(record, more):
                return base
            raise ModelNotFound(f"{base} is here, but not as `{more}`. Load it so, under another name.")
    return said


def _is_revision(record: Record, said: str) -> bool:
    commit = record.inspection.revision if record.inspection else ""
    stated = record.spec.revision or record.spec.source.partition("@")[2] or "main"
    return said == stated or (len(said) >= 7 and commit.startswith(said))


def _is_variant(record: Record, said: str) -> bool:
    """Whether `said` is how the model is quantised."""
    variant = split_variant(record.spec.source)[1] or ""
    known = (record.spec.quantization or "", variant.lower())
    return said.lower() in known or said.lower() in (record.spec.file or "").lower()
