"""Who may do what on the page, where keys are set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError, AuthenticationError
from playwright.async_api import Page, expect

from tests.ui.conftest import Open
from tests.ui.serving import running
from tests.ui.steps import go_to

pytestmark = pytest.mark.browser
USER, ADMIN = "key-of-a-user", "key-of-the-admin"


@pytest.fixture(scope="module")
async def guarded(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server with keys, and the classifier that everybody may use."""
    keys = {"BERTH_API_KEYS": USER, "BERTH_ADMIN_KEY": ADMIN, "BERTH_CLASSIFY_MODEL": "classify-a"}
    data = tmp_path_factory.mktemp("guarded")
    async with running(data, key=USER, BERTH_MODELS_DIR=str(models_dir), HF_HUB_OFFLINE="1", **keys) as url:
        yield url


async def sign_in(page: Page, key: str) -> None:
    """On the page that stands before the page."""
    await page.locator("input[type=password]").fill(key)
    await page.locator("form button").click()


async def test_a_user_uses_and_an_admin_manages(open_page: Open, guarded: str) -> None:
    async with asyncio.timeout(90):
        page = await open_page("session", url=guarded)
        await sign_in(page, USER)
        await go_to(page, "models")
        await expect(page.get_by_text("Sign in to manage models")).to_be_visible()
        for hidden in ("#load-id", "#run-models", "#cleanup"):
            await expect(page.locator(hidden)).to_be_hidden()
        await page.get_by_label("Admin key").fill(USER)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".signin .wrong")).to_contain_text("may use models, but not manage them")
        await page.get_by_label("Admin key").fill(ADMIN)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator("#load-id")).to_be_visible()
        await expect(page.get_by_text("Sign in to manage models")).to_be_hidden()


async def test_programs_on_the_page_hold_a_place_for_the_key(open_page: Open, guarded: str) -> None:
    page = await open_page("session", url=guarded)
    await sign_in(page, USER)
    await page.locator("#tab-classify textarea").first.fill("Good")
    await page.locator("#code-classify summary").click()
    for language in ("curl", "Python", "gradio_client", "JavaScript"):
        await page.locator("#code-classify").get_by_role("button", name=language, exact=True).click()
        await expect(page.locator("#code-classify code")).to_contain_text("YOUR_KEY")
    await expect(page.locator("#code-classify")).to_contain_text("Put your key where it says YOUR_KEY.")


async def test_the_same_rule_for_programs(guarded: str) -> None:
    def client(key: str) -> Client:
        return Client(guarded, headers={"X-API-Key": key}, verbose=False)

    user, admin = await asyncio.to_thread(client, USER), await asyncio.to_thread(client, ADMIN)
    told = await asyncio.to_thread(user.predict, "Good", api_name="/classify")
    assert told["model"] == "classify-a"
    for endpoint, arguments in (
        ("/load", ["tagger"]),
        ("/unload", ["classify-a"]),
        ("/cancel", ["x"]),
        ("/cleanup", []),
    ):
        with pytest.raises(AppError, match="needs the admin key"):
            await asyncio.to_thread(user.predict, *arguments, api_name=endpoint)
    assert (await asyncio.to_thread(admin.predict, "tagger", api_name="/load"))["state"] == "ready"
    with pytest.raises(AuthenticationError):
        await asyncio.to_thread(client, "wrong")
