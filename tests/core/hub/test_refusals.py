"""Models that would have code run: refused before anything is loaded, and before anything is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import RemoteCodeRefused
from core.hub.files import open_directory
from core.hub.identify import identify
from core.types import ModelSpec
from tests.fakes.repositories import CLASSIFIER, bert_config, write_repository, write_sentence_model

AUTO_MAP = {"AutoModel": "modeling_mine.MyModel", "AutoConfig": "other/repo--configuration.MyConfig"}


def inspect(folder: Path) -> Any:
    return identify(open_directory("model", folder), ModelSpec("model", "model"), pickle_allowed=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"trust_remote_code": True},
        {"trust_remote_code": False},
        {"text_config": {"deep": [{"er": {"trust_remote_code": "yes"}}]}},
        {"model_type": "mine", "auto_map": AUTO_MAP},
        {"model_type": None, "architectures": ["MyModel"], "auto_map": AUTO_MAP},
        {"activation_function": "os.abort"},
        {"classifier_activation": "builtins.exec"},
        {"sentence_transformers": {"activation_fn": "subprocess.run"}},
        {"activation": "torch.hub.load"},
        {"activation": "torch.nnx.Evil"},
    ],
)
def test_configurations_that_ask_for_code(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(RemoteCodeRefused, match="model"):
        inspect(write_repository(tmp_path / "m", bert_config(**fields), CLASSIFIER))


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": AUTO_MAP},  # bert is native: transformers uses its own class
        {"hidden_act": "gelu", "activation": "gelu_new"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
    ],
)
def test_what_is_harmless_passes(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert inspect(write_repository(tmp_path / "m", bert_config(**fields), CLASSIFIER)).tasks


@pytest.mark.parametrize("name", ["tokenizer_config.json", "sentence_bert_config.json", "1_Pooling/config.json"])
def test_every_configuration_is_searched(tmp_path: Path, name: str) -> None:
    folder = write_sentence_model(tmp_path / "m", files={name: {"model_args": {"trust_remote_code": True}}})
    with pytest.raises(RemoteCodeRefused, match=name):
        inspect(folder)


@pytest.mark.parametrize("kind", ["modeling.Mine", "os.system", "sentence_transformers_evil.X", None, 3, ["x"], ""])
def test_modules_of_other_classes(tmp_path: Path, kind: Any) -> None:
    modules = [{"idx": 0, "name": "0", "path": "", "type": kind}]
    with pytest.raises(RemoteCodeRefused):
        inspect(write_sentence_model(tmp_path / "m", modules))


def test_a_router_names_only_known_classes(tmp_path: Path) -> None:
    router = {"types": {"query_0": "modeling.Mine"}}
    with pytest.raises(RemoteCodeRefused, match=r"modeling\.Mine"):
        inspect(write_sentence_model(tmp_path / "m", files={"router_config.json": router}))


@pytest.mark.parametrize("name", ["modeling_mine.py", "deep/helper.py", "fast.so"])
def test_a_sentence_model_with_scripts_beside_it(tmp_path: Path, name: str) -> None:
    canary = f"open({str(tmp_path / 'canary')!r}, 'w')"
    with pytest.raises(RemoteCodeRefused, match=name):
        inspect(write_sentence_model(tmp_path / "m", files={name: canary}))
    assert not (tmp_path / "canary").exists()
