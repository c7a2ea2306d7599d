"""What architectures and model types mean. Data, and the few questions asked of it."""

from __future__ import annotations

from typing import Any

from core.types import Task

# Encoders that transformers carries itself. A test holds this against the installed transformers.
ENCODER_TYPES = frozenset((
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "funnel", "gte", "ibert",
    "jina_embeddings_v3", "lilt", "longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra",
    "nomic_bert", "nystromformer", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "splinter", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "yoso",
))  # fmt: skip
# Other types of transformers that are met with a classification head or under sentence-transformers.
OTHER_NATIVE_TYPES = frozenset((
    "bart", "bloom", "ctrl", "exaone4", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "gpt2",
    "gpt_neo", "gpt_neox", "gptj", "llama", "mbart", "mistral", "mt5", "opt", "phi", "phi3", "qwen2", "qwen3",
    "stablelm", "t5", "umt5",
))  # fmt: skip
NATIVE_TYPES = ENCODER_TYPES | OTHER_NATIVE_TYPES

# Position embeddings of these start behind the padding token's id: 514 positions are 512 tokens.
OFFSET_POSITIONS = frozenset((
    "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
))  # fmt: skip

# End of an architecture's name → tasks, first the one it was made for. Order matters: the first that fits counts.
_HEADS: tuple[tuple[str, tuple[Task, ...]], ...] = (
    ("ForSequenceClassification", (Task.TEXT_CLASSIFICATION,)),
    ("ForTokenClassification", (Task.TOKEN_CLASSIFICATION,)),
    ("ForQuestionAnswering", (Task.QUESTION_ANSWERING,)),
    ("ForQuestionAnsweringSimple", (Task.QUESTION_ANSWERING,)),
    ("ForMaskedLM", (Task.FILL_MASK, Task.FEATURE_EXTRACTION)),
    ("ForPreTraining", (Task.FEATURE_EXTRACTION,)),
    ("ForCausalLM", (Task.TEXT_GENERATION,)),
    ("LMHeadModel", (Task.TEXT_GENERATION,)),
)
# The same heads under names of their own.
_NAMED_HEADS: dict[str, tuple[Task, ...]] = {
    "XLMWithLMHeadModel": (Task.FILL_MASK, Task.FEATURE_EXTRACTION),
    "FlaubertWithLMHeadModel": (Task.FILL_MASK, Task.FEATURE_EXTRACTION),
}
_OTHER_HEADS = ("LMHeadModel", "DoubleHeadsModel", "EncoderDecoderModel", "VisionModel")

# Model type for the architectures of configurations that do not say it, longest first.
_PREFIXES = {
    "XLMRoberta": "xlm-roberta",
    "DebertaV2": "deberta-v2",
    "DistilBert": "distilbert",
    "Electra": "electra",
    "Deberta": "deberta",
    "Roberta": "roberta",
    "Albert": "albert",
    "Bert": "bert",
}


def tasks_of(architecture: str, model_type: str, pipeline_tag: str | None) -> tuple[Task, ...]:
    """The tasks that the head of `architecture` was trained for; empty when none is one of ours."""
    if architecture in _NAMED_HEADS:
        return _NAMED_HEADS[architecture]
    for ending, tasks in _HEADS:
        if architecture.endswith(ending):
            return tasks
    is_bare = architecture.endswith("Model") and not architecture.endswith(_OTHER_HEADS)
    if is_bare and (model_type in ENCODER_TYPES or pipeline_tag in ("feature-extraction", "sentence-similarity")):
        return (Task.FEATURE_EXTRACTION,)
    return ()


def model_type_of(config: dict[str, Any], architecture: str) -> str:
    """`model_type` of a configuration, or what its architecture implies; empty when neither says."""
    stated = config.get("model_type")
    if isinstance(stated, str) and stated:
        return stated[:64]
    return next((kind for prefix, kind in _PREFIXES.items() if architecture.startswith(prefix)), "")


def supported() -> str:
    """The tasks of this version as one line, for messages."""
    return ", ".join(Task)
