"""A plan as it is answered: to who asks for it, and beside the error of a load that was refused."""

from typing import Any

from pydantic import Field

from api.wire import Wire
from core.types import Plan


class NeedOnDevice(Wire):
    weights: int
    cache: int = Field(description="Keys and values of all answers at once.")
    activations: int = Field(description="Numbers of the largest pass.")
    overhead: int = Field(description="The process, its libraries, the device's context.")
    reckoned: int = Field(description="These together, from headers alone.")
    measured: int | None = Field(description="The most that the same model and settings were seen to take there.")
    total: int = Field(description="What the load is promised: as reckoned, corrected by what was measured.")


class RoomOnDevice(Wire):
    limit: int = Field(description="That models may take in all.")
    held: int = Field(description="That those in memory count for.")
    free: int


class PlanAnswer(Wire):
    """All sizes are bytes."""

    model_name: str
    model_path: str
    revision: str
    runtime: str
    task: str
    available_tasks: list[str]
    architecture: str
    parameters: int | None
    quantization: str | None
    device: str
    dtype: str
    context_length: int | None = Field(description="Tokens of one text, or of a prompt and its answer.")
    max_sequences: int | None = Field(description="Answers written at once.")
    cached_tokens: int = Field(description="Tokens of all answers together.")
    download_bytes: int
    disk_free: int
    fits_on_disk: bool
    weight_bytes: int = Field(description="As the files hold them.")
    needs: dict[str, NeedOnDevice]
    devices: dict[str, RoomOnDevice]
    total_bytes: int
    reckoned_bytes: int = Field(description="The same without what was measured.")
    measured: dict[str, int] | None = Field(
        description="The most that the same model and settings were seen to take, by device; null: not loaded yet."
    )
    verdict: str = Field(description="fits, fits_after_unloading, fits_as, fits_with_gpu_layers or never.")
    unload: list[str] = Field(description="Models whose end makes room.")
    quantizations: list[str] = Field(description="With which it fits.")
    gpu_layers: int | None = Field(description="With which it fits.")
    shorter_context: int | None = Field(description="Tokens with which it fits.")
    warnings: list[str]


def planned(plan: Plan) -> dict[str, Any]:
    """A plan as it is answered."""
    inspection, spec = plan.inspection, plan.inspection.spec
    warnings = list(inspection.warnings)
    if not plan.fits_on_disk:
        warnings.append(f"The download needs {inspection.download_bytes:,} bytes and {plan.disk_free:,} are free.")
    return {
        "model_name": spec.name,
        "model_path": spec.source,
        "revision": inspection.revision,
        "runtime": inspection.runtime,
        "task": inspection.tasks[0],
        "available_tasks": list(inspection.tasks),
        "architecture": inspection.architecture,
        "parameters": inspection.parameters,
        "quantization": spec.quantization,
        "device": plan.device,
        "dtype": plan.dtype,
        "context_length": plan.context_length,
        "max_sequences": plan.max_sequences,
        "cached_tokens": plan.cached_tokens,
        "download_bytes": inspection.download_bytes,
        "disk_free": plan.disk_free,
        "fits_on_disk": plan.fits_on_disk,
        "weight_bytes": inspection.anatomy.tensor_bytes,
        "needs": {
            need.device: {
                "weights": need.weights,
                "cache": need.cache,
                "activations": need.activations,
                "overhead": need.overhead,
                "reckoned": need.reckoned,
                "measured": (plan.measured or {}).get(need.device),
                "total": need.total,
            }
            for need in plan.needs
        },
        "devices": {room.device: {"limit": room.limit, "held": room.held, "free": room.free} for room in plan.rooms},
        "total_bytes": plan.total,
        "reckoned_bytes": sum(need.reckoned for need in plan.needs),
        "measured": plan.measured,
        "verdict": plan.fit,
        "unload": list(plan.unload),
        "quantizations": list(plan.quantizations),
        "gpu_layers": plan.gpu_layers,
        "shorter_context": plan.shorter_context,
        "warnings": warnings,
    }
