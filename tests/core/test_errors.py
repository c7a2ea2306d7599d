"""Every error has a name of its own and survives the way from a worker."""

import re

from core import errors


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    assert drawn == {kind.__name__ for kind in errors.all_errors()} - {"BerthError"}


def test_each_leaf_has_a_type_of_its_own():
    leaves = [kind for kind in errors.all_errors() if not kind.__subclasses__()]
    assert len({kind.type for kind in leaves}) == len(leaves)


def test_an_error_is_revived_as_what_it_was():
    for kind in errors.all_errors():
        if not kind.__subclasses__():
            revived = errors.revive(kind.type, "what happened")
            assert type(revived) is kind
            assert revived.message == "what happened"


def test_an_unknown_type_is_our_own_bug():
    assert type(errors.revive("no_such_type", "x")) is errors.InternalError


def test_only_busy_errors_carry_a_time_to_wait_by_themselves():
    for kind in errors.all_errors():
        waits = kind("x").retry_after is not None
        assert waits == issubclass(kind, errors.BusyError)
