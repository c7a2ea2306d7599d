"""What a model may be called."""

import pytest

from core.names import MAX_NAME, check_new_name


@pytest.mark.parametrize(
    "name", ["a", "BAAI/bge-m3", "감성/분류", "a@main", "a:b+c.d_e", "planner", "plan/b", "x" * MAX_NAME]
)
def test_names(name):
    assert check_new_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "/a", "a/", "a//b", "../a", ".a", "a\n", "x" * (MAX_NAME + 1)])
def test_what_is_no_name(name):
    with pytest.raises(ValueError, match="must be letters"):
        check_new_name(name)


@pytest.mark.parametrize("name", ["load", "plan", "a/predict", "a/b/events", "tasks", "a/cancel", "a/unload"])
def test_what_a_path_already_means(name):
    with pytest.raises(ValueError, match="must not end in"):
        check_new_name(name)
