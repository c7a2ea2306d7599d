"""Encoders as ONNX graphs, held against transformers and sentence-transformers."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import onnx
import pytest
import transformers
from onnx import TensorProto, helper

from core.errors import CorruptModel, LoadFailed, RemoteCodeRefused
from core.types import Runtime, Task
from core.worker.runtimes.pooling import pool
from tests.core.worker.conftest import ask, open_model
from tests.fakes.models import ARCHITECTURES, CORPUS, make_model, read_model, write_graph

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

from tests.core.worker.runtimes.test_sentence_transformer import MINILM, TEXTS, minilm_vectors, write_sentences

NER = Task.TOKEN_CLASSIFICATION
EMBED = Task.FEATURE_EXTRACTION


__all__ = ["minilm_vectors"]  # a fixture


def open_graph(path, *served, **options):
    return open_model(path, *served, runtime=Runtime.ONNXRUNTIME, **options)


@pytest.fixture(scope="session")
def graph_dir(model_dir, tmp_path_factory):
    """`graph_dir(architecture, head)`: a directory with onnx/model.onnx and no other weights."""
    made = {}

    def get(architecture, head, types=False):
        if (architecture, head) not in made:
            path = tmp_path_factory.mktemp("graph") / "model"
            shutil.copytree(model_dir(architecture, head), path)
            (path / "model.safetensors").unlink()
            write_graph(path / "onnx" / "model.onnx", read_model(model_dir(architecture, head), head), types=types)
            made[architecture, head] = path
        return made[architecture, head]

    return get


@pytest.fixture
def own(graph_dir, tmp_path):
    """A classifier's directory of this test alone, to be broken."""
    shutil.copytree(graph_dir("bert", Task.TEXT_CLASSIFICATION, types=True), tmp_path / "own")
    return tmp_path / "own"


def close(left, right):
    """Answers equal but for scores, and those to 1e-4."""
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key, value in left.items():
            assert value == (pytest.approx(right[key], abs=1e-4) if key == "score" else right[key])
    else:
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            close(one, other)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_of_tokens_equal_those_of_transformers(architecture, graph_dir, loaded):
    runtime = open_graph(graph_dir(architecture, NER), NER)
    texts = [*CORPUS, " ".join(CORPUS * 2), ""]
    close(ask(runtime, NER, texts), ask(loaded(architecture, NER), NER, texts))
    close(ask(runtime, NER, texts, rows=1), ask(runtime, NER, texts))
    assert runtime.info.tasks == (NER,)
    assert runtime.info.labels == loaded(architecture, NER).info.labels
    assert runtime.info.context_length == 64


@pytest.mark.parametrize(
    ("architecture", "task", "items", "fields"),
    [
        ("bert", Task.TEXT_CLASSIFICATION, list(CORPUS), {"top_k": 3}),
        ("roberta", Task.TEXT_CLASSIFICATION, list(CORPUS), {"top_k": 3}),
        ("bert", Task.ZERO_SHOT_CLASSIFICATION, list(CORPUS[:3]), {"candidate_labels": ["여행", "음식"]}),
        ("distilbert", Task.QUESTION_ANSWERING, [{"question": "누가?", "context": " ".join(CORPUS)}], {"top_k": 3}),
        ("roberta", Task.FILL_MASK, ["서울 <mask>", "the <mask> of <mask>"], {}),
    ],
)
def test_the_other_tasks_equal_transformers(architecture, task, items, fields, graph_dir, loaded):
    runtime = open_graph(graph_dir(architecture, task, types=architecture == "bert"), task)
    close(ask(runtime, task, items, **fields), ask(loaded(architecture, task), task, items, **fields))


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta"])
def test_vectors_of_a_plain_encoder_are_the_mean(architecture, graph_dir, loaded):
    runtime = open_graph(graph_dir(architecture, EMBED), EMBED)
    np.testing.assert_allclose(
        ask(runtime, EMBED, list(CORPUS)), ask(loaded(architecture, EMBED), EMBED, list(CORPUS)), atol=1e-4
    )


@pytest.fixture(scope="session")
def minilm_graph(tmp_path_factory):
    """MiniLM with its graph, as its repository on the Hub has it."""
    path = tmp_path_factory.mktemp("minilm") / "model"
    shutil.copytree(MINILM, path, ignore=shutil.ignore_patterns("model.safetensors"))
    model = transformers.AutoModel.from_pretrained(MINILM, attn_implementation="eager")
    write_graph(path / "onnx" / "model.onnx", model, types=True)
    return path


def test_minilm_equals_sentence_transformers(minilm_graph, minilm_vectors):
    runtime = open_graph(minilm_graph, EMBED)
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS), minilm_vectors, atol=1e-4)
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS[:5], rows=1), minilm_vectors[:5], atol=1e-4)
    assert (runtime.info.dimension, runtime.info.pooling, runtime.info.context_length) == (384, "mean", 256)
    assert runtime.info.runtime is Runtime.ONNXRUNTIME


def transformers_vector(tokenizer, model, text):
    """By plain transformers: the mean over the text's tokens, of length 1."""
    with torch.inference_mode():
        hidden = model(**tokenizer(text, return_tensors="pt", truncation=True, max_length=256)).last_hidden_state
    vector = hidden[0].mean(0).numpy()
    return vector / np.linalg.norm(vector)


def test_two_passes_at_once_give_the_vectors_of_transformers(minilm_graph):
    runtime = open_graph(minilm_graph, EMBED, passes=2)
    assert runtime.passes == 2
    assert open_graph(minilm_graph, EMBED).passes == 1
    together, plain = Barrier(2, timeout=60), runtime._session.run

    class Session:
        """The session, entered by two threads or by none."""

        def run(self, *arguments):
            together.wait()
            return plain(*arguments)

    runtime._session = Session()
    halves = [TEXTS, [*reversed(TEXTS)]]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda texts: ask(runtime, EMBED, texts, rows=1), halves))
    model, tokenizer = (
        transformers.AutoModel.from_pretrained(MINILM),
        transformers.AutoTokenizer.from_pretrained(MINILM),
    )
    expected = np.stack([transformers_vector(tokenizer, model, text) for text in TEXTS])
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    np.testing.assert_allclose(found[1], expected[::-1], atol=1e-4)


@pytest.mark.parametrize(
    "variant", [{"pooling": "cls", "normalize": True}, {"pooling": ("mean", "max")}, {"include_prompt": False}], ids=str
)
def test_pooling_and_prompts_come_from_the_models_files(variant, tmp_path):
    path = write_sentences(tmp_path, **variant)
    library = SentenceTransformer(str(path), device="cpu")
    write_graph(path / "model.onnx", transformers.AutoModel.from_pretrained(path, attn_implementation="eager"))
    runtime = open_graph(path, EMBED)
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS), library.encode(TEXTS), atol=1e-4)
    expected = library.encode(TEXTS, prompt_name="query")
    np.testing.assert_allclose(ask(runtime, EMBED, TEXTS, prompt_name="query"), expected, atol=1e-4)


def test_a_model_with_layers_outside_its_graph_is_refused(tmp_path):
    path = write_sentences(tmp_path, dense=True)
    write_graph(path / "model.onnx", transformers.AutoModel.from_pretrained(path, attn_implementation="eager"))
    with pytest.raises(LoadFailed, match="Dense"):
        open_graph(path, EMBED)


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
@pytest.mark.parametrize("prompt", [0, 2])
def test_pooling_equals_the_librarys(mode, prompt):
    generator = np.random.default_rng(5)
    hidden = generator.normal(size=(4, 9, 6)).astype(np.float32)
    mask = (np.arange(9) < np.array([[9], [3], [5], [4]])).astype(np.int64)
    features = {"token_embeddings": torch.from_numpy(hidden), "attention_mask": torch.from_numpy(mask)}
    features |= {"prompt_length": prompt} if prompt else {}
    expected = Pooling(6, mode, include_prompt=not prompt)(features)["sentence_embedding"].numpy()
    np.testing.assert_allclose(pool(hidden, mask, (mode,), np.full(4, prompt)), expected, atol=1e-6)


def test_a_graph_of_one_size_is_fed_that_size(model_dir, loaded, tmp_path):
    path = tmp_path / "fixed"
    shutil.copytree(model_dir("bert", NER), path)
    write_graph(path / "model.onnx", read_model(path, NER), fixed=(2, 24))
    runtime = open_graph(path, NER)
    assert runtime.info.context_length == 24
    texts = [*CORPUS[:3], "서울"]
    smaller = open_model(model_dir("bert", NER), NER, context_length=24)
    close(ask(runtime, NER, texts), ask(smaller, NER, texts))


def test_a_file_can_be_chosen(own, loaded):
    (own / "onnx" / "model.onnx").rename(own / "onnx" / "other.onnx")
    with pytest.raises(LoadFailed, match="has no ONNX graph"):
        open_graph(own, Task.TEXT_CLASSIFICATION)
    runtime = open_graph(own, Task.TEXT_CLASSIFICATION, file="onnx/other.onnx")
    assert runtime.info.tasks == (Task.TEXT_CLASSIFICATION,)


def test_a_quantised_graph_answers_nearly_the_same(own, loaded):
    graph = own / "onnx" / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantize_dynamic(graph, own / "onnx" / "model_quantized.onnx", weight_type=QuantType.QInt8)
    graph.unlink()
    fields = {"top_k": 3, "function_to_apply": "none"}
    found = ask(open_graph(own, Task.TEXT_CLASSIFICATION), Task.TEXT_CLASSIFICATION, list(CORPUS), **fields)
    expected = ask(loaded("bert", Task.TEXT_CLASSIFICATION), Task.TEXT_CLASSIFICATION, list(CORPUS), **fields)
    values = [
        [{each["label"]: each["score"] for each in answer} for answer in answers] for answers in (found, expected)
    ]
    gaps = [abs(left[label] - right[label]) for left, right in zip(*values, strict=True) for label in left]
    assert 0 < max(gaps) < 0.5 * max(abs(score) for right in values[1] for score in right.values())


@pytest.mark.parametrize("file", ["../x.onnx", "/etc/passwd", "onnx/../../x", "onnx/none.onnx", "onnx"])
def test_a_file_outside_or_absent_is_refused(file, own):
    (own.parent / "x.onnx").write_bytes(b"")
    with pytest.raises(LoadFailed, match="has no file"):
        open_graph(own, Task.TEXT_CLASSIFICATION, file=file)


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"not a graph at all", b"\xff" * 1000], ids=len)
def test_nonsense_is_no_graph(content, own):
    (own / "onnx" / "model.onnx").write_bytes(content)
    with pytest.raises((CorruptModel, LoadFailed), match="org/tiny") as caught:
        open_graph(own, Task.TEXT_CLASSIFICATION)
    assert str(own) not in caught.value.message


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_graph_that_was_cut_is_refused(share, own):
    path = own / "onnx" / "model.onnx"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises((CorruptModel, LoadFailed), match="org/tiny"):
        open_graph(own, Task.TEXT_CLASSIFICATION)


def test_a_graph_of_something_else_is_refused(own):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("pixel_values", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["pixel_values"], ["y"])], "g", [x], [y])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), own / "onnx" / "model.onnx"
    )
    with pytest.raises(LoadFailed, match="takes pixel_values; a text encoder takes input_ids"):
        open_graph(own, Task.TEXT_CLASSIFICATION)


def test_a_graph_without_a_head_is_refused(own):
    write_graph(own / "onnx" / "model.onnx", make_model("bert", EMBED))
    with pytest.raises(LoadFailed, match="gives no logits"):
        open_graph(own, Task.TEXT_CLASSIFICATION)
    with pytest.raises(LoadFailed, match="gives no start_logits"):
        open_graph(own, Task.QUESTION_ANSWERING)


def test_labels_that_are_not_as_many_as_the_graph_gives_are_refused(own):
    said = json.loads((own / "config.json").read_text())
    said |= {"id2label": {"0": "가", "1": "나"}, "label2id": {"가": 0, "나": 1}}
    (own / "config.json").write_text(json.dumps(said))
    with pytest.raises(CorruptModel, match="gives 3 scores"):
        open_graph(own, Task.TEXT_CLASSIFICATION)


def test_a_sentence_model_with_python_files_is_refused(tmp_path):
    path = write_sentences(tmp_path)
    write_graph(path / "model.onnx", transformers.AutoModel.from_pretrained(path, attn_implementation="eager"))
    (path / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(RemoteCodeRefused):
        open_graph(path, EMBED)


def external(location: str) -> TensorProto:
    """Four floats that lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def write_external(path: Path, location: str, place: str) -> None:
    """A text encoder in name, with a tensor from `location`: an initialiser, a constant, or inside a branch."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])
    cast = helper.make_node("Cast", ["input_ids"], ["unused"], to=TensorProto.FLOAT)
    tensor = external(location)
    if place == "initializer":
        nodes, initializers = [cast, helper.make_node("Identity", ["w"], ["logits"])], [tensor]
    elif place == "constant":
        nodes, initializers = [cast, helper.make_node("Constant", [], ["logits"], value=tensor)], []
    else:
        branch = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["b"])],
            "b",
            [],
            [helper.make_tensor_value_info("b", 1, [1, 4])],
            [tensor],
        )
        condition = helper.make_tensor("c", TensorProto.BOOL, [], [True])
        nodes = [cast, helper.make_node("If", ["c"], ["logits"], then_branch=branch, else_branch=branch)]
        initializers = [condition]
    graph = helper.make_graph(nodes, "g", [ids], [out], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
@pytest.mark.parametrize("location", ["/etc/passwd", "../../secret", "link", "folder/secret", "../secret"])
def test_data_outside_the_graphs_folder_is_never_read(location, place, own):
    for secret in (own.parent / "secret", own / "secret"):
        secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    os.symlink(own.parent / "secret", own / "onnx" / "link")
    os.symlink(own.parent, own / "onnx" / "folder")
    write_external(own / "onnx" / "model.onnx", location, place)
    with pytest.raises((CorruptModel, LoadFailed), match="org/tiny") as caught:
        open_graph(own, Task.TEXT_CLASSIFICATION)
    assert "gives 4 scores" not in caught.value.message  # it was refused, not read


@pytest.mark.parametrize("place", ["initializer", "branch"])
def test_data_beside_the_graph_is_read_also_through_the_hubs_cache_of_links(place, own, tmp_path):
    (own / "onnx" / "data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    write_external(own / "onnx" / "model.onnx", "data", place)
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    for index, file in enumerate(sorted(path for path in own.rglob("*") if path.is_file())):
        shutil.copy(file, blobs / str(index))
        link = snapshot / file.relative_to(own)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(os.path.relpath(blobs / str(index), link.parent), link)
    # inside a branch onnxruntime takes no link at all, not even the cache's
    for path in (own, snapshot) if place == "initializer" else (own,):
        with pytest.raises(CorruptModel, match="gives 4 scores"):  # so it was read
            open_graph(path, Task.TEXT_CLASSIFICATION)


def test_a_graph_that_names_an_operator_nobody_knows_is_refused(own):
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "tokens"])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])
    graph = helper.make_graph([helper.make_node("Evil", ["input_ids"], ["logits"], domain="evil")], "g", [ids], [out])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), own / "onnx" / "model.onnx")
    with pytest.raises((CorruptModel, LoadFailed), match="org/tiny"):
        open_graph(own, Task.TEXT_CLASSIFICATION)


def test_embeddings_of_a_fill_mask_graph_are_not_offered(graph_dir):
    runtime = open_graph(graph_dir("roberta", Task.FILL_MASK), Task.FILL_MASK, EMBED)
    assert runtime.info.tasks == (Task.FILL_MASK,)
    assert runtime.max_batch_tokens <= 64 * 1024 * 1024 // 500
