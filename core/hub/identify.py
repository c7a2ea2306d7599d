"""What a model is, told from its small files and headers: task, architecture, runtime, labels. Reads, never writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from core.errors import CallerError, CorruptModel, InvalidRequest, NoSupportedTask, TaskNotSupported
from core.halves import halves_of
from core.hub.anatomy import of_configuration, of_graphs, text_config
from core.hub.architectures import (
    CAUSAL_TYPES,
    ENCODER_TYPES,
    OFFSET_POSITIONS,
    SEQ2SEQ_TYPES,
    model_type_of,
    seq2seq_tasks,
    supported,
    tasks_of,
)
from core.hub.bare_graph import identify_bare_graph, is_bare_graph
from core.hub.files import Files, read_document, read_map
from core.hub.gguf_repository import identify_gguf, is_gguf
from core.hub.graph import read_graph_tensors
from core.hub.refusals import refuse_foreign_modules, refuse_remote_code, refuse_scripts
from core.hub.sight import check_graphs, sight_of
from core.hub.tensors import Tensors, read_index, read_tensors
from core.hub.weights import SMALL_GRAPH, Format, Weights, choose_weights, module_folders, support_files
from core.types import TEXT_TO_TEXT_TASKS, Anatomy, Inspection, ModelSpec, RepoFile, Runtime, Task

MAX_LABELS = 100_000
_FEW_SHARDS = 2  # whose headers are read on the Hub, a request each
_NO_TENSORS = Tensors(0, 0, None, frozenset())
_CLASSIFIERS = (Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
_POSITIONS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx", "max_seq_len")
_NO_LIMIT = 1_000_000  # tokens; tokenizers write 1e30 where they know no limit


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the small files say."""

    config: dict[str, Any]
    documents: dict[str, Any]  # path → parsed JSON, all that decides anything
    folders: tuple[str, ...]  # where parts of the model lie, the encoder first
    architecture: str
    model_type: str
    labels: tuple[str, ...]

    @property
    def is_sentence_model(self) -> bool:
        return "modules.json" in self.documents


def identify(files: Files, spec: ModelSpec, *, pickle_allowed: bool) -> Inspection:
    """What `files` are and which of them loading `spec` needs.

    Raises RemoteCodeRefused, PickleRefused, CorruptModel, NoSupportedTask, TaskNotSupported or InvalidRequest.
    """
    if is_gguf(files, spec, pickle_allowed=pickle_allowed):
        return identify_gguf(files, spec)
    if is_bare_graph(files, spec):
        return identify_bare_graph(files, spec)
    facts = _read_facts(files)
    refuse_remote_code(files.name, facts.documents, facts.model_type)
    if facts.is_sentence_model:
        refuse_foreign_modules(files.name, facts.documents)
        if files.revision == "local":
            refuse_scripts(files.name, iter(files.sizes))
    weights = choose_weights(files, spec, facts.folders, pickle_allowed=pickle_allowed)
    safe = [path for path in weights.paths if path.endswith(".safetensors")]
    tensors = _read_tensors(files, safe, weights) if safe else _NO_TENSORS
    warnings = _weight_warnings(files, weights)
    runtime = _runtime(files, spec, facts, weights, warnings)
    tasks = _tasks(files, spec, facts, tensors, warnings)
    if weights.file is not None:
        _check_halves(files, weights.file, tasks)
        check_graphs(files, weights.file, facts.model_type, tasks)
    if Task.IMAGE_TEXT_TO_TEXT in tasks and not {"preprocessor_config.json", "processor_config.json"} & set(
        files.sizes
    ):
        raise CorruptModel(f"{files.name} has no preprocessor_config.json, which says how it is given images.")
    if Task.TEXT_GENERATION in tasks and not _has_chat_template(files, facts):
        warnings.append("It has no chat template; in a chat, its turns are written one under another in plain words.")
    folders = _support_folders(facts, weights)
    needed = dict.fromkeys((*support_files(files, folders), *filter(None, (weights.index,)), *weights.paths))
    return Inspection(
        spec=replace(spec, file=weights.file or spec.file),
        revision=files.revision,
        local=str(files.directory) if files.directory else None,
        files=tuple(RepoFile(path, files.sizes[path]) for path in needed),
        runtime=runtime,
        tasks=tasks,
        model_type=facts.model_type,
        architecture=facts.architecture,
        labels=facts.labels if set(tasks) & {*_CLASSIFIERS, Task.ZERO_SHOT_CLASSIFICATION} else (),
        context_length=_context_length(files, spec, facts, tasks),
        parameters=tensors.parameters or None,
        weight_bytes=sum(files.sizes[path] for path in weights.paths),
        dtype=tensors.dtype or _stated_dtype(facts.config),
        license=files.card.license,
        warnings=tuple(warnings),
        anatomy=_anatomy(files, facts, weights, tensors, sees=Task.IMAGE_TEXT_TO_TEXT in tasks),
    )


def _read_tensors(files: Files, safe: list[str], weights: Weights) -> Tensors:
    """Of all shards when they are here or few; else by their index, since each header far away is a request."""
    if files.directory is None and weights.index in files.sizes and len(safe) > _FEW_SHARDS:
        return read_index(files, str(weights.index), safe)
    return read_tensors(files, safe)


def _anatomy(files: Files, facts: _Facts, weights: Weights, tensors: Tensors, *, sees: bool) -> Anatomy:
    """What the plan of a load is reckoned from."""
    file_bytes = sum(files.sizes[path] for path in weights.paths)
    processing = _image_settings(facts)
    if weights.format is Format.ONNX:
        graphs = [path for path in weights.paths if path.endswith(".onnx")]
        is_near = files.directory is not None or file_bytes <= SMALL_GRAPH
        tensors_of = [read_graph_tensors(files, path) for path in graphs] if is_near else []
        found = of_graphs(facts.config, tensors_of, file_bytes, two_parts=len(graphs) > 1 and not sees)
        return replace(found, **(sight_of(facts.config, processing, as_graph=True) if sees else {}))
    width = 2 if _stated_dtype(facts.config) in ("float16", "bfloat16") else 4
    found = of_configuration(facts.config, tensors, file_bytes, width, two_parts=facts.model_type in SEQ2SEQ_TYPES)
    return replace(found, **(sight_of(facts.config, processing) if sees else {}))


def _image_settings(facts: _Facts) -> dict[str, Any]:
    """How images are made ready, from the file that transformers prefers."""
    nested = facts.documents.get("processor_config.json", {}).get("image_processor")
    return nested if isinstance(nested, dict) else facts.documents.get("preprocessor_config.json", {})


def _read_facts(files: Files) -> _Facts:
    modules = read_document(files, "modules.json")
    folders = module_folders(modules, files.name) if modules is not None else ("",)
    main = folders[0] if modules is not None else _config_folder(files)
    documents: dict[str, Any] = {} if modules is None else {"modules.json": modules}
    for folder in dict.fromkeys((main, "", *folders)):
        for name in _DOCUMENTS:
            path = f"{folder}/{name}" if folder else name
            if path in files.sizes:
                documents[path] = read_map(files, path)
    config = documents.get(f"{main}/config.json" if main else "config.json", {})
    if not documents:
        raise CorruptModel(f"{files.name} has no config.json, so it cannot be told what it is. Check the name.")
    names = config.get("architectures")
    architecture = next((each for each in names if isinstance(each, str)), "") if isinstance(names, list) else ""
    model_type = model_type_of(config, architecture)
    labels = _labels(files, config, architecture)
    return _Facts(config, documents, (main, *(f for f in folders if f != main)), architecture, model_type, labels)


_DOCUMENTS = (
    "config.json", "tokenizer_config.json", "config_sentence_transformers.json", "sentence_bert_config.json",
    "sentence_roberta_config.json", "sentence_xlnet_config.json", "router_config.json", "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip


def _config_folder(files: Files) -> str:
    """The folder of config.json: the root, or onnx/ where exports put everything together."""
    return "onnx" if "config.json" not in files.sizes and "onnx/config.json" in files.sizes else ""


def _labels(files: Files, config: dict[str, Any], architecture: str) -> tuple[str, ...]:
    """Labels by their index. Raises CorruptModel when they are not a map from index to text."""
    id2label = config.get("id2label")
    if id2label is None:
        count = config.get("num_labels", config.get("_num_labels"))
        heads = ("ForSequenceClassification", "ForTokenClassification", "ForImageClassification")
        size = count if type(count) is int and 0 < count <= MAX_LABELS else 2  # transformers' default
        return tuple(f"LABEL_{index}" for index in range(size)) if architecture.endswith(heads) else ()
    try:
        pairs = sorted((int(index), str(label)) for index, label in id2label.items())
    except (AttributeError, TypeError, ValueError):
        pairs = [(-1, "")]
    if len(pairs) > MAX_LABELS or [index for index, _ in pairs] != list(range(len(pairs))):
        raise CorruptModel(f"id2label in config.json of {files.name} does not number its labels from 0.")
    return tuple(label for _, label in pairs)


def _check_halves(files: Files, graph: str, tasks: tuple[Task, ...]) -> None:
    """Raises NoSupportedTask where what the graphs are and what the model does are not of one kind."""
    is_whole, is_wanted = halves_of(graph, files.sizes) is not None, tasks[0] in TEXT_TO_TEXT_TASKS
    if is_wanted and not is_whole:
        raise NoSupportedTask(
            f"{files.name} is an encoder-decoder, and {graph} is one graph. As ONNX files it takes encoder_model.onnx "
            "and a decoder beside it. Choose such files, or a repository with safetensors."
        )
    if is_whole and not is_wanted:
        raise NoSupportedTask(
            f"{graph} of {files.name} is a half of an encoder-decoder, which does not do {tasks[0]} here. "
            f"It runs models for {', '.join(TEXT_TO_TEXT_TASKS)}."
        )


def _weight_warnings(files: Files, weights: Weights) -> list[str]:
    warnings = []
    if weights.format is Format.PICKLE:
        warnings.append("Its weights are pickled; they are read as tensors only, never as code.")
    if weights.format is Format.ONNX and "pytorch_model.bin" in files.sizes and "model.safetensors" not in files.sizes:
        warnings.append("Its PyTorch weights are pickled; the ONNX file is used.")
    if files.card.gated:
        warnings.append("Its licence has to be accepted on the Hub.")
    return warnings


def _runtime(files: Files, spec: ModelSpec, facts: _Facts, weights: Weights, warnings: list[str]) -> Runtime:
    if weights.format is Format.ONNX:
        if spec.runtime not in (None, Runtime.ONNXRUNTIME):
            raise InvalidRequest(f"{weights.file} of {files.name} runs on onnxruntime, not on {spec.runtime}.")
        return Runtime.ONNXRUNTIME
    if spec.runtime is Runtime.SENTENCE_TRANSFORMERS and not facts.is_sentence_model:
        raise InvalidRequest(
            f"{files.name} has no modules.json, so sentence-transformers cannot run it as it was made."
        )
    if spec.runtime is Runtime.ONNXRUNTIME:
        raise InvalidRequest(f"{weights.paths[0]} of {files.name} does not run on onnxruntime. Choose an .onnx file.")
    wants_other = spec.task not in (None, Task.FEATURE_EXTRACTION)
    if spec.runtime is Runtime.TRANSFORMERS or not facts.is_sentence_model or wants_other:
        if facts.is_sentence_model and (facts.folders[0] or not facts.config):
            raise InvalidRequest(
                f"{files.name} keeps its encoder in a folder, so only sentence-transformers can run it."
            )
        if facts.is_sentence_model and not wants_other:
            warnings.append("Run by transformers, its vectors are mean-pooled, whatever modules.json says.")
        return Runtime.TRANSFORMERS
    return Runtime.SENTENCE_TRANSFORMERS


def _tasks(files: Files, spec: ModelSpec, facts: _Facts, tensors: Tensors, warnings: list[str]) -> tuple[Task, ...]:
    """The tasks the model can do, `spec.task` alone when it asks for one."""
    stated = facts.documents.get("config_sentence_transformers.json", {}).get("model_type", "SentenceTransformer")
    if facts.is_sentence_model and stated != "SentenceTransformer":
        raise _unsupported(files, f"is a {str(stated)[:64]} of sentence-transformers")
    if facts.is_sentence_model and spec.task in (None, Task.FEATURE_EXTRACTION):
        return (Task.FEATURE_EXTRACTION,)
    if facts.architecture:
        tasks = tasks_of(facts.architecture, facts.model_type, _stated_task(files, facts))
        if tasks == (Task.FEATURE_EXTRACTION,) and any("cls.predictions" in name for name in tensors.heads):
            tasks = (Task.FILL_MASK, Task.FEATURE_EXTRACTION)
        if not tasks:
            raise _unsupported(files, f"is a {facts.architecture[:64]}")
    else:
        tasks = _guess(files, spec, facts, tensors, warnings)
    tasks = _with_zero_shot(files, facts, tasks)
    return tasks if spec.task is None else _asked_for(files, spec.task, facts, tasks, warnings)


def _stated_task(files: Files, facts: _Facts) -> str | None:
    """The task that the card names, or the only one that the configuration has settings for."""
    own = facts.config.get("task_specific_params")
    if files.card.pipeline_tag in set(Task) or not isinstance(own, dict) or len(own) != 1:
        return files.card.pipeline_tag
    return str(next(iter(own)))


def _has_chat_template(files: Files, facts: _Facts) -> bool:
    return any(
        any(f"{folder}/chat_template.{kind}".lstrip("/") in files.sizes for kind in ("jinja", "json"))
        or facts.documents.get(f"{folder}/tokenizer_config.json".lstrip("/"), {}).get("chat_template")
        for folder in (facts.folders[0], "")
    )


def _with_zero_shot(files: Files, facts: _Facts, tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """A classifier of entailment also chooses among any labels; first, where that is what it was published for."""
    entails = any(label.lower().startswith("entail") for label in facts.labels) and len(facts.labels) > 1
    if tasks != (Task.TEXT_CLASSIFICATION,) or not entails:
        return tasks
    both = (Task.ZERO_SHOT_CLASSIFICATION, Task.TEXT_CLASSIFICATION)
    return both if files.card.pipeline_tag == Task.ZERO_SHOT_CLASSIFICATION else both[::-1]


def _asked_for(
    files: Files, task: Task, facts: _Facts, tasks: tuple[Task, ...], warnings: list[str]
) -> tuple[Task, ...]:
    if task in tasks:
        return (task, *(other for other in tasks if other is not task))
    if task is Task.FEATURE_EXTRACTION and facts.model_type in ENCODER_TYPES:
        warnings.append(f"It was made for {tasks[0]}; its head is left out and its hidden states are mean-pooled.")
        return (task,)
    raise TaskNotSupported(f"{files.name} cannot do {task}: it is made for {' and '.join(tasks)}. Leave `task` out.")


def _guess(files: Files, spec: ModelSpec, facts: _Facts, tensors: Tensors, warnings: list[str]) -> tuple[Task, ...]:
    """The task of a model whose configuration names no architecture; always with a warning."""
    task, why = _guess_with_reason(files, spec, facts, tensors)
    if task is None:
        raise _unsupported(files, "names no architecture and has no head that is known")
    warnings.append(
        f"config.json names no architecture; taken for {task} because of {why}. Set `task` if that is wrong."
    )
    if task is Task.ZERO_SHOT_CLASSIFICATION:
        return (Task.TEXT_CLASSIFICATION,)
    if task in TEXT_TO_TEXT_TASKS:
        return seq2seq_tasks(facts.model_type, task)
    return (task, Task.FEATURE_EXTRACTION) if task is Task.FILL_MASK else (task,)


def _guess_with_reason(files: Files, spec: ModelSpec, facts: _Facts, tensors: Tensors) -> tuple[Task | None, str]:
    heads = {name.split(".")[0] for name in tensors.heads} | {name.rsplit(".", 2)[0] for name in tensors.heads}
    tagged = any(label[:2] in ("B-", "I-") for label in facts.labels)
    if spec.task is not None:
        return spec.task, "the request"
    if files.card.pipeline_tag in set(Task):
        return Task(files.card.pipeline_tag), "its model card"
    if facts.model_type in SEQ2SEQ_TYPES and not heads & {"classification_head", "qa_outputs"}:
        return Task.TEXT2TEXT_GENERATION, "its type, an encoder-decoder"
    if facts.model_type in CAUSAL_TYPES and not heads & {"score", "classifier", "qa_outputs"}:
        return Task.TEXT_GENERATION, "its type, a causal model"
    if "qa_outputs" in heads:
        return Task.QUESTION_ANSWERING, "its weights (qa_outputs)"
    if tagged:
        return Task.TOKEN_CLASSIFICATION, "its labels (B- and I-)"
    if facts.labels or heads & {"classifier", "score"}:
        return Task.TEXT_CLASSIFICATION, "its labels" if facts.labels else "its weights (classifier)"
    if any(part in name for name in heads for part in ("cls", "lm_head", "vocab_projector", "predictions")):
        return Task.FILL_MASK, "its weights (a head over the vocabulary)"
    if facts.model_type in ENCODER_TYPES:
        return Task.FEATURE_EXTRACTION, "its type, an encoder"
    return None, ""


def _unsupported(files: Files, what: str) -> CallerError:
    return NoSupportedTask(f"{files.name} {what}, which this version cannot run. It runs models for: {supported()}.")


def _support_folders(facts: _Facts, weights: Weights) -> tuple[str, ...]:
    graph = weights.file.rpartition("/")[0] if weights.file else ""
    return tuple(dict.fromkeys(("", *facts.folders, graph)))


def _context_length(files: Files, spec: ModelSpec, facts: _Facts, tasks: tuple[Task, ...]) -> int | None:
    """Tokens the model reads at once, special ones included. Raises InvalidRequest when `spec` asks for more."""
    main = facts.folders[0]
    tokenizer = facts.documents.get(f"{main}/tokenizer_config.json" if main else "tokenizer_config.json", {})
    sizes = text_config(facts.config)
    positions = next((sizes[name] for name in _POSITIONS if name in sizes), None)
    if type(positions) is int and facts.model_type in OFFSET_POSITIONS:
        padding = facts.config.get("pad_token_id")
        positions -= (padding if type(padding) is int else 1) + 1
    stated = [positions, tokenizer.get("model_max_length")]
    if tasks[0].generates and type(positions) is int:  # tokenizers of such models often carry another model's limit
        stated = [positions]
    if facts.is_sentence_model:
        stated += [document.get("max_seq_length") for path, document in facts.documents.items() if "sentence_" in path]
    known = [int(value) for value in stated if type(value) in (int, float) and 0 < value < _NO_LIMIT]
    longest = min(known, default=None)
    if spec.context_length is None:
        return longest
    if spec.context_length < 8 or (longest is not None and spec.context_length > longest):
        raise InvalidRequest(
            f"`context_length` of {files.name} can be 8 to {longest or _NO_LIMIT:,} tokens; "
            f"{spec.context_length:,} were asked for."
        )
    return spec.context_length


def _stated_dtype(config: dict[str, Any]) -> str | None:
    value = config.get("dtype", config.get("torch_dtype"))
    return value[:16] if isinstance(value, str) else None
