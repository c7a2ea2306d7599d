"""Keys and what they allow, in each way of starting."""

import pytest

from core.access import Access, Role
from core.settings import Settings


def access(**given) -> Access:
    return Access(Settings(_env_file=None, **given))


def test_on_loopback_without_keys_everybody_is_admin():
    made = access()
    assert made.made_key is None
    assert made.role_of(None) is Role.ADMIN
    assert made.role_of("anything") is Role.ADMIN


def test_bound_wider_without_keys_use_is_open_and_admin_needs_the_made_key():
    made = access(host="0.0.0.0")
    assert made.made_key
    assert made.role_of(None) is Role.USER
    assert made.role_of(made.made_key) is Role.ADMIN
    assert made.role_of("hf_a_token_of_the_hub") is Role.USER


def test_the_made_key_is_new_each_time():
    assert access(host="0.0.0.0").made_key != access(host="0.0.0.0").made_key


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_with_keys_nothing_without_one(host):
    made = access(host=host, api_keys="one, two", admin_key="root")
    assert made.made_key is None
    assert [made.role_of(key) for key in (None, "", "x", "one", "two", "root")] == [
        Role.NOBODY,
        Role.NOBODY,
        Role.NOBODY,
        Role.USER,
        Role.USER,
        Role.ADMIN,
    ]


def test_user_keys_alone_get_a_made_admin_key_too():
    made = access(api_keys="one")
    assert made.made_key
    assert made.role_of(made.made_key) is Role.ADMIN


def test_an_admin_key_alone_leaves_use_open():
    made = access(admin_key="root")
    assert made.role_of(None) is Role.USER
    assert made.role_of("root") is Role.ADMIN


def test_keys_may_be_of_any_script():
    made = access(api_keys="열쇠", admin_key="root")
    assert made.role_of("열쇠") is Role.USER
    assert made.role_of("열쇠\ud800") is Role.NOBODY
