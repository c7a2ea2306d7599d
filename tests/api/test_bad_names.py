"""Names and paths of models that are none. The names are those of the test plan (B1 …)."""

import os

import pytest

from tests.api.refusals import check_refusal

pytestmark = pytest.mark.usefixtures("leaves_nothing")

BAD_SOURCES = [
    "../x", "..", ".", "/", "//", "..\\x", "%2e%2e%2f", "..%252f", "....//", "a/../../x", "a/..", "./a",
    "a/./b", "", " ", " a", "a ", "a.", "a\n", "a\t", ".hidden", "CON", "con.txt", "NUL", "aux/x", "a\x00b",
    "a" * 300, "a/" * 200, "/proc/self/environ", "/dev/zero", "/dev/random", "/etc/passwd", "/proc",
    "/proc/self/root", "/../etc", "http://169.254.169.254/", "file:///etc/passwd", "hf://a/b", "//host/x",
    "user:pw@host", "https://huggingface.co/a", "org/na me", "a/b/c", "org--name", "o" * 97, "org/" + "n" * 97,
    "org/name@", "org/name@../x", "org/name@" + "r" * 1000, "org/name@refs/pr/1/../2", "@main", "org/@main",
    "é", "e\u0301", "a\u202eb", "\u200b", "ａ", "-a", "a..b", "~", "~/x", "$HOME", "${x}", "{0.__class__}",
    "a;b", "a|b", "a&b", "a`b", "*", "a?b", "a#b", "C:\\x", "\\\\host\\x", "starter:../x", "starter:x/y",
    "starter:",
]  # fmt: skip


@pytest.mark.parametrize("source", BAD_SOURCES, ids=lambda source: repr(source)[:24])
async def test_b47_to_b54_a_source_that_is_none(shared, source):
    answer = await shared.client.post("/models/load?wait=true", json={"model_name": "x", "model_path": source})
    check_refusal(answer, 403, 404, 422)
    assert shared.core.registry.records() == []


async def test_b48_b50_b51_paths_that_lead_elsewhere(shared, tmp_path, fake_models):
    outside = tmp_path / "models-evil"
    outside.mkdir()
    fifo, link, loop = tmp_path / "fifo", fake_models / "link", fake_models / "loop"
    os.mkfifo(fifo)
    link.symlink_to(outside)
    loop.symlink_to(loop)
    sources = [str(fifo), "link", "loop", f"../{outside.name}", str(tmp_path / "nothing"), str(outside)]
    try:
        for source in sources:
            answer = await shared.client.post("/models/load", json={"model_name": "x", "model_path": source})
            check_refusal(answer, 403, 404, 422, 503)  # 503: it could be on the Hub, and this server is offline
            assert shared.core.registry.records() == []
    finally:
        link.unlink()
        loop.unlink()


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "/x", "x/", "x//y", "x\\y", "x\ny", "x\x00y", "x" * 201, ".x", "-x", "x y", "x?y", "x#y",
     "x%2fy", "x/events", "x/predict", "load", "e\u0301", "\u202ex", "<script>", "{x}", "x/../y", "😀"],
    ids=repr,
)  # fmt: skip
async def test_b49_b52_a_name_no_model_can_have(shared, name):
    answer = await shared.client.post("/models/load", json={"model_name": name, "model_path": "a"})
    assert "model_name" in check_refusal(answer, 422)["message"]


@pytest.mark.parametrize("field", ["revision", "file"])
@pytest.mark.parametrize(
    "value",
    ["../x", "/etc/passwd", "..", "a\x00b", "x" * 1000, "http://x/y", "a\nb", "..\\..\\x", "%2e%2e/x"],
    ids=repr,
)
async def test_b54_a_revision_or_file_that_is_none(shared, field, value):
    body = {"model_name": "x", "model_path": "a", field: value}
    check_refusal(await shared.client.post("/models/load?wait=true", json=body), 403, 404, 422)
    assert shared.core.registry.records() == []


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "x" * 5000, "%ff%fe", "%0d%0aX-Injected:%201", "....//", "a%5cb",
     "%20", "%F0%9F%98%80", "..%252f", "%1b[31m"],
)  # fmt: skip
async def test_names_in_paths(shared, name):
    for call in ("GET /models/{}", "GET /models/{}/tasks", "GET /models/{}/events", "POST /models/{}/unload",
                 "POST /models/{}/cancel", "POST /models/{}/predict"):  # fmt: skip
        method, path = call.split()
        answer = await shared.client.request(
            method, path.format(name), json={"text": "x"} if path.endswith("predict") else None
        )
        check_refusal(answer, 404)
        assert "x-injected" not in answer.headers
