"""What a directory of files is taken for: task, runtime, labels and the files that loading needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from core.errors import BerthError, CorruptModel, InvalidRequest, NoSupportedTask, PickleRefused, TaskNotSupported
from core.hub.files import open_directory
from core.hub.identify import identify
from core.types import Inspection, ModelSpec, Runtime, Task
from tests.fakes.repositories import (
    CLASSIFIER,
    ENCODER,
    Shapes,
    bert_config,
    write_repository,
    write_sentence_model,
    write_shards,
    write_tensors,
)

TEXT, TOKEN, FEATURES = Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, Task.FEATURE_EXTRACTION
QA, ZERO_SHOT, MASK = Task.QUESTION_ANSWERING, Task.ZERO_SHOT_CLASSIFICATION, Task.FILL_MASK


def inspect(folder: Path, *, admin: bool = False, **fields: Any) -> Inspection:
    spec = ModelSpec("model", "model", **fields)
    return identify(open_directory("model", folder), spec, pickle_allowed=admin)


def paths(inspection: Inspection) -> set[str]:
    return {file.path for file in inspection.files}


@pytest.mark.parametrize(
    ("architecture", "tasks"),
    [
        ("BertForSequenceClassification", (TEXT,)),
        ("DistilBertForTokenClassification", (TOKEN,)),
        ("RobertaForQuestionAnswering", (QA,)),
        ("XLMRobertaForMaskedLM", (MASK, FEATURES)),
        ("DebertaV2Model", (FEATURES,)),
        ("ElectraForPreTraining", (FEATURES,)),
    ],
)
def test_the_task_is_that_of_the_architecture(tmp_path: Path, architecture: str, tasks: tuple[Task, ...]) -> None:
    kinds = {"Dis": "distilbert", "Rob": "roberta", "XLM": "xlm-roberta", "Deb": "deberta-v2", "Ele": "electra"}
    config = bert_config(architecture, model_type=kinds.get(architecture[:3], "bert"))
    inspection = inspect(write_repository(tmp_path / "m", config, ENCODER))
    assert inspection.tasks == tasks
    assert inspection.runtime is Runtime.TRANSFORMERS
    assert inspection.architecture == architecture
    assert inspection.warnings == ()


def test_what_a_classifier_says_of_itself(tmp_path: Path) -> None:
    card = {"README.md": "---\nlicense: apache-2.0\npipeline_tag: text-classification\n---\n# A model\n"}
    inspection = inspect(write_repository(tmp_path / "m", bert_config(), CLASSIFIER, card))
    assert inspection.labels == ("negative", "neutral", "positive")
    assert inspection.context_length == 512
    assert (inspection.parameters, inspection.dtype) == (100 * 16 + 16 * 16 + 3 * 16 + 3, "float32")
    assert inspection.weight_bytes == (tmp_path / "m/model.safetensors").stat().st_size
    assert (inspection.license, inspection.revision, inspection.local) == ("apache-2.0", "local", str(tmp_path / "m"))
    assert inspection.download_bytes == 0


def test_only_what_loading_needs_is_taken(tmp_path: Path) -> None:
    unwanted = ["modeling.py", "pytorch_model.bin", "tf_model.h5", "README.md", "onnx/model.onnx", "optimizer.pt"]
    unwanted += ["training_args.bin", "runs/log.json", ".git/config", "image.png"]
    others = dict.fromkeys([*unwanted, "vocab.txt", "special_tokens_map.json"], b"x")
    inspection = inspect(write_repository(tmp_path / "m", bert_config(), CLASSIFIER, others))
    wanted = {"config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"}
    assert paths(inspection) == {*wanted, "model.safetensors"}


def test_shards_are_all_needed(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "m", bert_config())
    write_shards(folder, {"model-1.safetensors": ENCODER, "model-2.safetensors": {"classifier.weight": (3, 16)}})
    assert {"model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"} <= paths(inspect(folder))
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(CorruptModel, match=r"model-2\.safetensors"):
        inspect(folder)


def test_labels_that_are_not_named_are_numbered(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "m", bert_config(id2label=None, num_labels=4), CLASSIFIER)
    assert inspect(folder).labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_labels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {str(index): f"l{index}" for index in reversed(range(12))}
    assert inspect(write_repository(tmp_path / "m", bert_config(id2label=names), CLASSIFIER)).labels[-1] == "l11"


@pytest.mark.parametrize("id2label", [{"0": "a", "2": "b"}, {"x": "a"}, ["a"], 3, {"1": "a"}, {"0": "a", "00": "b"}])
def test_labels_without_order_are_refused(tmp_path: Path, id2label: Any) -> None:
    with pytest.raises(CorruptModel, match="id2label"):
        inspect(write_repository(tmp_path / "m", bert_config(id2label=id2label), CLASSIFIER))


@pytest.mark.parametrize("tag", [None, "zero-shot-classification"])
def test_a_classifier_of_entailment_also_takes_any_labels(tmp_path: Path, tag: str | None) -> None:
    labels = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    card = {"README.md": f"---\npipeline_tag: {tag}\n---"} if tag else {}
    inspection = inspect(write_repository(tmp_path / "m", bert_config(id2label=labels), CLASSIFIER, card))
    assert inspection.tasks == ((ZERO_SHOT, TEXT) if tag else (TEXT, ZERO_SHOT))


BIO = {"0": "O", "1": "B-PER", "2": "I-PER"}
GUESSES: list[tuple[dict[str, Any], Shapes, str | None, tuple[Task, ...]]] = [
    ({"id2label": BIO}, CLASSIFIER, None, (TOKEN,)),
    ({}, CLASSIFIER, None, (TEXT,)),
    ({"id2label": None}, CLASSIFIER, None, (TEXT,)),
    ({"id2label": None}, {**ENCODER, "qa_outputs.weight": (2, 16)}, None, (QA,)),
    ({"id2label": None}, {**ENCODER, "cls.predictions.bias": (9,)}, None, (MASK, FEATURES)),
    ({"id2label": None}, {**ENCODER, "lm_head.bias": (9,)}, None, (MASK, FEATURES)),
    ({"id2label": None}, {**ENCODER, "vocab_projector.bias": (9,)}, None, (MASK, FEATURES)),
    ({"id2label": None}, ENCODER, None, (FEATURES,)),
    ({}, CLASSIFIER, "token-classification", (TOKEN,)),
    ({"id2label": {"0": "entailment", "1": "other"}}, CLASSIFIER, "zero-shot-classification", (ZERO_SHOT, TEXT)),
]


@pytest.mark.parametrize(("fields", "shapes", "tag", "tasks"), GUESSES)
def test_a_head_that_is_not_named_is_guessed_with_a_warning(
    tmp_path: Path, fields: dict[str, Any], shapes: Shapes, tag: str | None, tasks: tuple[Task, ...]
) -> None:
    card = {"README.md": f"---\npipeline_tag: {tag}\n---"} if tag else {}
    inspection = inspect(write_repository(tmp_path / "m", bert_config(None, **fields), shapes, card))
    assert inspection.tasks == tasks
    assert "taken for" in inspection.warnings[0]


@pytest.mark.parametrize(
    "architecture", ["BertForNextSentencePrediction", "T5ForConditionalGeneration", "ViTForMaskedImageModeling"]
)
def test_other_kinds_of_model_are_named_in_the_refusal(tmp_path: Path, architecture: str) -> None:
    folder = write_repository(tmp_path / "m", bert_config(architecture, model_type="other"), ENCODER)
    with pytest.raises(NoSupportedTask, match=f"{architecture}.*text-classification, token-classification"):
        inspect(folder)


def test_a_task_may_be_asked_for(tmp_path: Path) -> None:
    masked = write_repository(tmp_path / "mask", bert_config("BertForMaskedLM", id2label=None), ENCODER)
    assert inspect(masked, task=FEATURES).tasks == (FEATURES, MASK)
    classifier = write_repository(tmp_path / "text", bert_config(), CLASSIFIER)
    embedding = inspect(classifier, task=FEATURES)
    assert embedding.tasks == (FEATURES,)
    assert "mean-pooled" in embedding.warnings[0]
    assert inspect(write_repository(tmp_path / "none", bert_config(None), CLASSIFIER), task=TOKEN).tasks == (TOKEN,)
    for task in (TOKEN, QA, MASK, ZERO_SHOT):
        with pytest.raises(TaskNotSupported, match="made for text-classification"):
            inspect(classifier, task=task)


def test_a_sentence_model(tmp_path: Path) -> None:
    inspection = inspect(write_sentence_model(tmp_path / "m"))
    assert (inspection.runtime, inspection.tasks) == (Runtime.SENTENCE_TRANSFORMERS, (FEATURES,))
    assert inspection.context_length == 128
    assert {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"} <= paths(inspection)
    by_transformers = inspect(tmp_path / "m", runtime=Runtime.TRANSFORMERS)
    assert (by_transformers.runtime, by_transformers.tasks) == (Runtime.TRANSFORMERS, (FEATURES,))
    assert "mean-pooled" in by_transformers.warnings[0]


def test_a_sentence_model_in_folders(tmp_path: Path) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    folder = write_repository(tmp_path / "m", None, None, {"modules.json": modules})
    write_repository(folder / "0_Transformer", bert_config("BertModel", id2label=None), ENCODER)
    dense = {"in_features": 16, "out_features": 8, "activation_function": "torch.nn.modules.activation.Tanh"}
    write_repository(folder / "1_Dense", dense, {"linear.weight": (8, 16)})
    inspection = inspect(folder)
    assert {"0_Transformer/model.safetensors", "1_Dense/model.safetensors", "1_Dense/config.json"} <= paths(inspection)
    assert inspection.parameters == 100 * 16 + 16 * 16 + 8 * 16
    (folder / "1_Dense/model.safetensors").rename(folder / "1_Dense/pytorch_model.bin")
    with pytest.raises(PickleRefused):
        inspect(folder)
    assert "1_Dense/pytorch_model.bin" in paths(inspect(folder, admin=True))


@pytest.mark.parametrize("path", ["..", "../x", "/etc", "a/../../b", "\\x", 3, None])
def test_modules_stay_inside(tmp_path: Path, path: Any) -> None:
    modules = [{"idx": 0, "name": "0", "path": path, "type": "sentence_transformers.models.Transformer"}]
    with pytest.raises(CorruptModel):
        inspect(write_sentence_model(tmp_path / "m", modules))


def test_sparse_models_are_none_of_ours(tmp_path: Path) -> None:
    kind = {"config_sentence_transformers.json": {"model_type": "SparseEncoder"}}
    with pytest.raises(NoSupportedTask, match="SparseEncoder"):
        inspect(write_sentence_model(tmp_path / "m", files=kind))


def test_pickles_are_for_admins(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "m", bert_config(), None, {"pytorch_model.bin": b"\x80\x04x"})
    with pytest.raises(PickleRefused, match=r"pytorch_model\.bin.*admin"):
        inspect(folder)
    inspection = inspect(folder, admin=True)
    assert "pytorch_model.bin" in paths(inspection)
    assert "pickled" in inspection.warnings[0]
    write_tensors(folder / "model.safetensors", CLASSIFIER)
    assert "pytorch_model.bin" not in paths(inspect(folder, admin=True))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("model.pt", PickleRefused),
        ("model.ckpt", PickleRefused),
        ("weights.pkl", PickleRefused),
        ("model.joblib", PickleRefused),
        ("other.bin", PickleRefused),
        ("tf_model.h5", NoSupportedTask),
        ("flax_model.msgpack", NoSupportedTask),
        ("model.gguf", CorruptModel),
        ("adapter_config.json", NoSupportedTask),
        ("notes.txt", CorruptModel),
    ],
)
@pytest.mark.parametrize("admin", [False, True])
def test_other_weights_are_told_apart(tmp_path: Path, name: str, kind: type[BerthError], admin: bool) -> None:
    folder = write_repository(tmp_path / "m", bert_config(), None, {name: b"{}"})
    with pytest.raises(kind):
        inspect(folder, admin=admin)


def test_a_pickle_by_another_name_is_refused(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "m", bert_config(), None, {"model.safetensors": b"\x80\x04\x95abcdefghijkl"})
    with pytest.raises(CorruptModel):
        inspect(folder, admin=True)


class TestOnnx:
    """Graphs: an empty file is a sound protobuf, which is all that is asked of it here."""

    def repository(self, folder: Path, *names: str) -> Path:
        return write_repository(folder, bert_config(), None, dict.fromkeys(names, b""))

    @pytest.mark.parametrize(
        ("names", "chosen"),
        [
            (["model.onnx"], "model.onnx"),
            (["model.onnx", "onnx/model.onnx"], "onnx/model.onnx"),
            (["onnx/model_quantized.onnx", "onnx/model_int8.onnx"], "onnx/model_quantized.onnx"),
            (["deep/er/special.onnx"], "deep/er/special.onnx"),
        ],
    )
    def test_the_graph_is_chosen_by_its_name(self, tmp_path: Path, names: list[str], chosen: str) -> None:
        inspection = inspect(self.repository(tmp_path / "m", *names))
        assert (inspection.runtime, inspection.spec.file) == (Runtime.ONNXRUNTIME, chosen)
        assert {path for path in paths(inspection) if path.endswith(".onnx")} == {chosen}
        assert inspection.tasks == (TEXT,)

    def test_a_choice_among_several_is_left_to_the_caller(self, tmp_path: Path) -> None:
        folder = self.repository(tmp_path / "m", "onnx/a.onnx", "onnx/b.onnx")
        with pytest.raises(InvalidRequest, match=r"onnx/a\.onnx, onnx/b\.onnx"):
            inspect(folder)
        assert inspect(folder, file="onnx/b.onnx").spec.file == "onnx/b.onnx"

    def test_safetensors_come_first_unless_asked(self, tmp_path: Path) -> None:
        folder = self.repository(tmp_path / "m", "onnx/model.onnx")
        write_tensors(folder / "model.safetensors", CLASSIFIER)
        assert inspect(folder).runtime is Runtime.TRANSFORMERS
        assert inspect(folder, runtime=Runtime.ONNXRUNTIME).runtime is Runtime.ONNXRUNTIME
        assert inspect(folder, file="onnx/model.onnx").runtime is Runtime.ONNXRUNTIME
        with pytest.raises(InvalidRequest, match="not on transformers"):
            inspect(folder, file="onnx/model.onnx", runtime=Runtime.TRANSFORMERS)

    def test_it_stands_in_for_a_pickle(self, tmp_path: Path) -> None:
        folder = self.repository(tmp_path / "m", "onnx/model.onnx", "pytorch_model.bin")
        assert inspect(folder).runtime is Runtime.ONNXRUNTIME
        assert inspect(folder, admin=True).runtime is Runtime.TRANSFORMERS

    def test_a_sentence_model_keeps_its_pooling(self, tmp_path: Path) -> None:
        folder = write_sentence_model(tmp_path / "m", files={"onnx/model.onnx": b""})
        inspection = inspect(folder, runtime=Runtime.ONNXRUNTIME)
        assert (inspection.runtime, inspection.tasks) == (Runtime.ONNXRUNTIME, (FEATURES,))
        assert {"modules.json", "1_Pooling/config.json", "onnx/model.onnx"} <= paths(inspection)
        assert "model.safetensors" not in paths(inspection)

    def decoder(self, folder: Path, *names: str, **files: Any) -> Path:
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 2048}
        return write_repository(folder, config, None, {**dict.fromkeys(names, b""), **files})

    @pytest.mark.parametrize(
        ("names", "chosen"),
        [
            (["onnx/model_q4.onnx", "onnx/decoder_model_merged.onnx", "onnx/model.onnx"], "onnx/model.onnx"),
            (["onnx/model_quantized.onnx", "onnx/decoder_model_merged.onnx"], "onnx/decoder_model_merged.onnx"),
            (["onnx/model_q4.onnx", "onnx/model_quantized.onnx"], "onnx/model_quantized.onnx"),
            (["decoder_model_merged.onnx", "decoder_model.onnx"], "decoder_model_merged.onnx"),
        ],
    )
    def test_a_decoder_generates(self, tmp_path: Path, names: list[str], chosen: str) -> None:
        own = {"generation_config.json": {}, "chat_template.jinja": "{{ messages }}"}
        inspection = inspect(self.decoder(tmp_path / "m", *names, **own))
        assert (inspection.runtime, inspection.tasks) == (Runtime.ONNXRUNTIME, (Task.TEXT_GENERATION,))
        assert inspection.spec.file == chosen
        assert paths(inspection) == {chosen, "config.json", "tokenizer.json", "tokenizer_config.json", *own}
        assert inspect(tmp_path / "m", file=names[0]).spec.file == names[0]

    def test_a_decoder_with_safetensors_is_for_transformers(self, tmp_path: Path) -> None:
        folder = self.decoder(tmp_path / "m", "onnx/model.onnx")
        write_tensors(folder / "model.safetensors", {"model.embed_tokens.weight": (100, 16)})
        assert inspect(folder).runtime is Runtime.TRANSFORMERS
        assert inspect(folder, runtime=Runtime.ONNXRUNTIME).spec.file == "onnx/model.onnx"

    def seq2seq(self, folder: Path, *names: str, **config: Any) -> Path:
        own = {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", **config}
        return write_repository(folder, own, None, {f"onnx/{name}.onnx": b"" for name in names})

    ALL = ("decoder_model", "decoder_model_merged", "decoder_with_past_model", "encoder_model")

    @pytest.mark.parametrize(
        ("names", "chosen"),
        [
            (ALL, ("encoder_model", "decoder_model_merged")),
            (("encoder_model", "decoder_model", "decoder_with_past_model"), None),
            ((*ALL, *(f"{name}_quantized" for name in ALL)), ("encoder_model", "decoder_model_merged")),
            (tuple(f"{name}_q4" for name in ALL), ("encoder_model_q4", "decoder_model_merged_q4")),
        ],
    )
    def test_an_encoder_decoder_needs_both_halves(
        self, tmp_path: Path, names: tuple[str, ...], chosen: tuple[str, ...] | None
    ) -> None:
        inspection = inspect(self.seq2seq(tmp_path / "m", *names))
        assert (inspection.runtime, inspection.tasks[0]) == (Runtime.ONNXRUNTIME, Task.TEXT2TEXT_GENERATION)
        graphs = {path for path in paths(inspection) if path.endswith(".onnx")}
        assert graphs == {f"onnx/{name}.onnx" for name in chosen or names}
        assert inspection.spec.file == f"onnx/{(chosen or names)[1]}.onnx"

    def test_a_file_says_the_precision(self, tmp_path: Path) -> None:
        folder = self.seq2seq(tmp_path / "m", *self.ALL, *(f"{name}_quantized" for name in self.ALL))
        for file, merged in (("encoder_model", True), ("decoder_model_merged", True), ("decoder_model", False)):
            for ending in ("", "_quantized"):
                inspection = inspect(folder, file=f"onnx/{file}{ending}.onnx")
                decoder = f"onnx/decoder_model{'_merged' if merged else ''}{ending}.onnx"
                assert inspection.spec.file == decoder
                assert f"onnx/encoder_model{ending}.onnx" in paths(inspection)
                assert (f"onnx/decoder_with_past_model{ending}.onnx" in paths(inspection)) is not merged

    @pytest.mark.parametrize(
        "names",
        [
            ("encoder_model", "decoder_model"),
            ("encoder_model", "decoder_model_merged_q4"),
            ("encoder_model", "decoder_with_past_model"),
        ],
    )
    def test_half_of_an_encoder_decoder_is_refused(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        folder = self.seq2seq(tmp_path / "m", *names)
        for file in (None, *(f"onnx/{name}.onnx" for name in names)):
            with pytest.raises(NoSupportedTask, match="one half of an encoder-decoder"):
                inspect(folder, file=file)

    def test_graphs_of_another_kind_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(NoSupportedTask, match=r"and onnx/model\.onnx is one graph"):
            inspect(self.seq2seq(tmp_path / "t5", "model"))
        config = {"architectures": ["BartForSequenceClassification"], "model_type": "bart"}
        with pytest.raises(NoSupportedTask, match="does not do text-classification here"):
            inspect(self.seq2seq(tmp_path / "bart", *self.ALL, **config))

    def test_a_runtime_without_its_files_is_refused(self, tmp_path: Path) -> None:
        folder = write_repository(tmp_path / "m", bert_config(), CLASSIFIER)
        with pytest.raises(InvalidRequest, match="no ONNX file"):
            inspect(folder, runtime=Runtime.ONNXRUNTIME)
        with pytest.raises(InvalidRequest, match=r"no modules\.json"):
            inspect(folder, runtime=Runtime.SENTENCE_TRANSFORMERS)


@pytest.mark.parametrize("file", ["../x", "/etc/passwd", "none.onnx", "tokenizer.json", "a\0b", "", "config.json"])
def test_a_file_is_one_of_the_models_own(tmp_path: Path, file: str) -> None:
    with pytest.raises(InvalidRequest):
        inspect(write_repository(tmp_path / "m", bert_config(), CLASSIFIER), file=file)


def test_the_standard_weights_may_be_named(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "m", bert_config(), CLASSIFIER, {"pytorch_model.bin": b"x"})
    assert "model.safetensors" in paths(inspect(folder, file="model.safetensors"))
    with pytest.raises(PickleRefused):
        inspect(folder, file="pytorch_model.bin")


@pytest.mark.parametrize(
    ("fields", "tokenizer", "length"),
    [
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, {}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, {}, 8192),
        ({"max_position_embeddings": 512}, {"model_max_length": 128}, 128),
        ({"max_position_embeddings": 512}, {"model_max_length": 1e30}, 512),
        ({"max_position_embeddings": None}, {"model_max_length": 1e30}, None),
        ({"max_position_embeddings": "many"}, {"model_max_length": True}, None),
    ],
)
def test_the_context_is_the_least_of_what_is_stated(
    tmp_path: Path, fields: dict[str, Any], tokenizer: dict[str, Any], length: int | None
) -> None:
    files = {"tokenizer_config.json": tokenizer}
    folder = write_repository(tmp_path / "m", bert_config(**fields), CLASSIFIER, files)
    assert inspect(folder).context_length == length


@pytest.mark.parametrize("asked", [0, -1, 7, 513, 2**31])
def test_a_context_can_only_be_cut(tmp_path: Path, asked: int) -> None:
    folder = write_repository(tmp_path / "m", bert_config(), CLASSIFIER)
    assert inspect(folder, context_length=64).context_length == 64
    with pytest.raises(InvalidRequest, match="8 to 512"):
        inspect(folder, context_length=asked)


@pytest.mark.parametrize("config", [b"", b"[]", b"{", b"\xff\xfe", b"3", b'{"a":' * 50_000, b'{"architectures": "Bert'])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, config: bytes) -> None:
    folder = write_repository(tmp_path / "m", None, CLASSIFIER, {"config.json": config})
    with pytest.raises(CorruptModel, match=r"config\.json"):
        inspect(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": 3},
        {"architectures": [None, {}]},
        {"model_type": ["bert"]},
        {"num_labels": -1, "id2label": None},
        {"num_labels": 10**12, "id2label": None},
        {"max_position_embeddings": -5},
        {"torch_dtype": {"a": 1}},
    ],
)
def test_odd_values_end_in_an_answer_or_a_typed_error(tmp_path: Path, fields: dict[str, Any]) -> None:
    folder = write_repository(tmp_path / "m", {**bert_config(), **fields}, CLASSIFIER)
    try:
        assert inspect(folder).tasks
    except BerthError:
        return


def test_an_empty_directory_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match=r"no config\.json"):
        inspect(tmp_path)


def test_only_regular_files_inside_count(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "m", None, CLASSIFIER)
    (tmp_path / "outside.json").write_text("{}")
    (folder / "config.json").symlink_to(tmp_path / "outside.json")
    os.mkfifo(folder / "vocab.txt")
    (folder / "loop.json").symlink_to(folder / "loop.json")
    assert set(open_directory("model", folder).sizes) == {
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_a_snapshot_of_the_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name/snapshots/abc"
    write_repository(snapshot, bert_config(), CLASSIFIER)
    (tmp_path / "models--org--name/blobs").mkdir()
    (snapshot / "config.json").rename(tmp_path / "models--org--name/blobs/c")
    (snapshot / "config.json").symlink_to("../../blobs/c")
    assert inspect(snapshot).tasks == (TEXT,)
