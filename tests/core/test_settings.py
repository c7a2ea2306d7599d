"""Settings come from the environment, `.env` and the command line, in that order of weight."""

from pathlib import Path

import pytest

from core.errors import InvalidRequest
from core.settings import PROJECT, as_markdown, read_settings


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("HOST", "PORT", "LOG_LEVEL", "BERTH_API_KEYS", "HF_TOKEN", "BERTH_MAX_QUEUE"):
        monkeypatch.delenv(name, raising=False)


def test_the_defaults_listen_on_loopback():
    settings = read_settings()
    assert (settings.host, settings.port, settings.is_loopback) == ("127.0.0.1", 7860, True)


def test_the_command_line_beats_the_environment_beats_the_file(monkeypatch):
    Path(".env").write_text("PORT=1001\nLOG_LEVEL=debug\nBERTH_API_KEYS=a,b\n")
    assert (read_settings().port, read_settings().log_level, read_settings().api_keys) == (1001, "DEBUG", ("a", "b"))
    monkeypatch.setenv("PORT", "1002")
    assert read_settings().port == 1002
    assert read_settings(port=1003).port == 1003


def test_what_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setenv("PORT", "many")
    monkeypatch.setenv("BERTH_MAX_QUEUE", "0")
    with pytest.raises(InvalidRequest, match=r"(?s)PORT.*BERTH_MAX_QUEUE"):
        read_settings()


def test_a_secret_is_not_in_the_error(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PORT", "hf_secret")
    with pytest.raises(InvalidRequest) as caught:
        read_settings()
    assert "hf_secret" not in caught.value.message


def test_the_page_of_settings_is_what_the_class_says():
    """`python -m core.settings > docs/settings.md` writes it anew."""
    assert (PROJECT / "docs" / "settings.md").read_text() == as_markdown()
