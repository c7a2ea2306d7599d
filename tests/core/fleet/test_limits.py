"""What all models together may take: a budget, or what others leave."""

import pytest

from core.fleet.limits import limits_of
from core.memory.probe import DeviceMemory
from core.settings import MIB, Settings

GIB = 1024 * MIB


def host(total=10 * GIB, used=GIB):
    return DeviceMemory("cpu", "CPU", total, total - used, used)


def gpu(index, used=0):
    return DeviceMemory(f"cuda:{index}", "a GPU", 20 * GIB, 20 * GIB - used, used)


@pytest.fixture
def unset():
    return Settings(_env_file=None)


def test_a_budget_is_taken_as_it_is_set(unset):
    settings = unset.model_copy(update={"cpu_memory_budget_mb": 100, "gpu_memory_budget_mb": 200.5})
    limits = limits_of(settings, host(), [gpu(0), gpu(1, used=GIB)], [])
    assert limits == {"cpu": 100 * MIB, "cuda:0": int(200.5 * MIB), "cuda:1": int(200.5 * MIB)}


def test_without_one_others_and_a_margin_are_left_alone(unset):
    limits = limits_of(unset, host(used=3 * GIB), [gpu(0, used=2 * GIB)], [{"cpu": GIB, "cuda:0": GIB}, {"cpu": GIB}])
    assert limits == {"cpu": 10 * GIB - 512 * MIB - GIB, "cuda:0": 20 * GIB - 512 * MIB - GIB}


def test_the_margin_of_a_small_machine_is_small(unset):
    assert limits_of(unset, host(total=GIB, used=0), [], []) == {"cpu": GIB - int(GIB * 0.05)}


def test_models_that_look_larger_than_all_that_is_used_leave_no_less(unset):
    assert limits_of(unset, host(used=GIB), [], [{"cpu": 2 * GIB}]) == {"cpu": 10 * GIB - 512 * MIB}


def test_a_machine_that_others_have_filled(unset):
    assert limits_of(unset, host(used=10 * GIB), [], []) == {"cpu": 0}
