"""Whether a model fits, and what would make it fit. A pure function of headers, settings and what the ledger holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.memory.calibration import Calibration, correct
from core.memory.keyvalues import context_of
from core.memory.ledger import Ledger, Tenant
from core.memory.need import cached_tokens, devices_of, layers_of, needs_of
from core.memory.spread import spread
from core.memory.weights import QUANTIZED_RUNTIMES, item_bytes
from core.settings import Settings
from core.types import DeviceRoom, Fit, Inspection, ModelSpec, Need, Plan, Quantization, Runtime

LEAST_CONTEXT = 256  # tokens; a shorter one is not offered
_ORDER = (Fit.FITS, Fit.AFTER_UNLOADING, Fit.QUANTIZED, Fit.SPLIT, Fit.NEVER)


def make_plan(
    inspection: Inspection,
    settings: Settings,
    ledger: Ledger,
    tenants: Sequence[Tenant],
    gpus: Sequence[str],
    disk_free: int,
    calibration: Calibration | None = None,
) -> Plan:
    """The plan on the device where it fits best, or on several together where no single one could hold it; `gpus` are
    those of this machine.

    `tenants` are the models in memory, `ledger` what they count for and the limits; neither is changed.
    `calibration`: what was seen of models before.
    """
    plans = [
        _Planner(inspection, settings, ledger, tenants, device, calibration or Calibration()).plan(disk_free)
        for device in devices_of(inspection, settings, gpus)
    ]
    if all(plan.fit not in (Fit.FITS, Fit.AFTER_UNLOADING) for plan in plans):
        plans += _over_several(plans[0], settings, ledger, tenants, gpus)
    return min(plans, key=lambda plan: (_ORDER.index(plan.fit), len(plan.unload), -_free(plan)))


def _over_several(
    single: Plan, settings: Settings, ledger: Ledger, tenants: Sequence[Tenant], gpus: Sequence[str]
) -> list[Plan]:
    """The same over several GPUs: beside all that is in memory, or else beside what is pinned."""
    anybody = [replace(tenant, is_busy=False, is_fresh=False) for tenant in tenants]
    for free in ({device: ledger.room(device) for device in ledger.limits}, ledger.most(tenants)):
        found = spread(single.inspection, settings, {gpu: free[gpu] for gpu in gpus if gpu in free})
        if found is None:
            continue
        short = ledger.shortage(_by_device(found.needs))
        unload = ledger.victims(short, tenants) or ledger.victims(short, anybody)
        if short and not unload:
            continue
        rooms = tuple(
            DeviceRoom(need.device, ledger.limits[need.device], ledger.held(need.device))
            for need in found.needs
            if need.device in ledger.limits
        )
        fit = Fit.AFTER_UNLOADING if unload else Fit.FITS
        whole = replace(single, device=found.device, needs=found.needs, rooms=rooms, measured=None)  # seen on one GPU
        return [replace(whole, fit=fit, unload=unload)]
    return []


def _free(plan: Plan) -> int:
    return next((room.free for room in plan.rooms if room.device == plan.device), 0)


class _Planner:
    """The questions asked of one device."""

    def __init__(
        self,
        inspection: Inspection,
        settings: Settings,
        ledger: Ledger,
        tenants: Sequence[Tenant],
        device: str,
        calibration: Calibration,
    ) -> None:
        self._calibration = calibration
        self._inspection, self._settings, self._device = inspection, settings, device
        self._ledger, self._tenants = ledger, tenants

    def plan(self, disk_free: int) -> Plan:
        inspection, generates = self._inspection, self._inspection.tasks[0].generates
        needs = self._needs(inspection)
        seen = self._calibration.seen(inspection, self._settings, self._device)
        plan = Plan(
            inspection=inspection,
            device=self._device,
            dtype=self._dtype(),
            context_length=context_of(inspection) if generates else inspection.context_length,
            max_sequences=self._settings.max_sequences if generates else None,
            cached_tokens=cached_tokens(inspection, self._settings, self._device),
            needs=needs,
            rooms=tuple(self._room(need.device) for need in needs if need.device in self._ledger.limits),
            disk_free=disk_free,
            fit=Fit.FITS,
            measured={need.device: size for need in needs if (size := seen.on(need.device))} if seen else None,
        )
        return plan if self._fits(needs) else self._alternatives(plan)

    def _alternatives(self, plan: Plan) -> Plan:
        unload = self._victims(plan.needs)
        quantizations = self._quantizations()
        layers = self._gpu_layers()
        if unload:
            fit = Fit.AFTER_UNLOADING
        elif quantizations:
            fit = Fit.QUANTIZED
        else:
            fit = Fit.NEVER if layers is None else Fit.SPLIT
        return replace(
            plan,
            fit=fit,
            unload=unload,
            quantizations=quantizations,
            gpu_layers=layers,
            shorter_context=self._shorter_context(),
        )

    def _fits(self, needs: Sequence[Need]) -> bool:
        """Beside everything that is in memory now."""
        return not self._ledger.shortage(_by_device(needs))

    def _fits_as(self, **changes: object) -> bool:
        spec: ModelSpec = replace(self._inspection.spec, **changes)  # type: ignore[arg-type]
        context = self._inspection.context_length if spec.context_length is None else spec.context_length
        changed = replace(self._inspection, spec=spec, context_length=context)
        return self._fits(self._needs(changed))

    def _needs(self, inspection: Inspection) -> tuple[Need, ...]:
        """What it takes here, as the load will be promised it."""
        reckoned = needs_of(inspection, self._settings, self._device)
        return correct(reckoned, self._calibration.seen(inspection, self._settings, self._device))

    def _victims(self, needs: Sequence[Need]) -> tuple[str, ...]:
        """Models whose end makes room: idle ones, else any that is not pinned; none when all together do not."""
        short = self._ledger.shortage(_by_device(needs))
        anybody = [replace(tenant, is_busy=False, is_fresh=False) for tenant in self._tenants]
        return self._ledger.victims(short, self._tenants) or self._ledger.victims(short, anybody)

    def _quantizations(self) -> tuple[Quantization, ...]:
        inspection = self._inspection
        if (
            inspection.runtime not in QUANTIZED_RUNTIMES
            or inspection.spec.quantization
            or not inspection.anatomy.linear
        ):
            return ()
        return tuple(each for each in Quantization if self._fits_as(quantization=each))

    def _gpu_layers(self) -> int | None:
        """The most layers on the GPU with which a GGUF model fits, fewer than it would have."""
        if self._device == "cpu" or self._inspection.runtime is not Runtime.LLAMA_CPP:
            return None
        fewer = range(layers_of(self._inspection, self._settings) - 1, 0, -1)
        return next((count for count in fewer if self._fits_as(gpu_layers=count)), None)

    def _shorter_context(self) -> int | None:
        if not self._inspection.tasks[0].generates:
            return None
        tokens = context_of(self._inspection) // 2
        while tokens >= LEAST_CONTEXT:
            if self._fits_as(context_length=tokens):
                return tokens
            tokens //= 2
        return None

    def _room(self, device: str) -> DeviceRoom:
        return DeviceRoom(device, self._ledger.limits[device], self._ledger.held(device))

    def _dtype(self) -> str:
        inspection = self._inspection
        if inspection.runtime is Runtime.LLAMA_CPP:
            return inspection.dtype or "unknown"
        if inspection.spec.dtype is not None and inspection.runtime is not Runtime.ONNXRUNTIME:
            return inspection.spec.dtype
        names = {4: "float32", 2: "float16" if inspection.runtime is Runtime.ONNXRUNTIME else "bfloat16"}
        return names[item_bytes(inspection, self._device)]


def _by_device(needs: Sequence[Need]) -> dict[str, int]:
    return {need.device: need.total for need in needs}
