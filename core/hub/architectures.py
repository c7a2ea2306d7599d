"""What architectures and model types mean. Data, and the few questions asked of it."""

from __future__ import annotations

from typing import Any

from core.types import TEXT_TO_TEXT_TASKS, Task

# Encoders that transformers carries itself. A test holds this against the installed transformers.
ENCODER_TYPES = frozenset((
    "albert", "bert", "big_bird", "camembert", "canine", "convbert", "data2vec-text", "deberta", "deberta-v2",
    "distilbert", "electra", "ernie", "esm", "eurobert", "flaubert", "fnet", "funnel", "gte", "ibert",
    "jina_embeddings_v3", "lilt", "longformer", "luke", "megatron-bert", "mobilebert", "modernbert", "mpnet", "mra",
    "nomic_bert", "nystromformer", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "splinter", "squeezebert", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod", "yoso",
))  # fmt: skip
# Causal models of text that transformers carries itself.
CAUSAL_TYPES = frozenset((
    "afmoe", "apertus", "arcee", "aria_text", "bailing_hybrid", "bamba", "bart", "bert-generation",
    "bigbird_pegasus", "biogpt", "bitnet", "blenderbot", "blenderbot-small", "bloom", "blt", "codegen", "cohere",
    "cohere2", "cohere2_moe", "cpmant", "ctrl", "cwm", "dbrx", "deepseek_v2", "deepseek_v3", "deepseek_v32",
    "diffllama", "doge", "dots1", "ernie4_5", "ernie4_5_moe", "exaone4", "exaone_moe", "falcon", "falcon_h1",
    "falcon_mamba", "flex_olmo", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "glm", "glm4", "glm4_moe",
    "glm4_moe_lite", "glm_moe_dsa", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_neox_japanese",
    "gpt_oss", "gptj", "granite", "granitemoe", "granitemoehybrid", "granitemoeshared", "helium",
    "hunyuan_v1_dense", "hunyuan_v1_moe", "hyperclovax", "internlm3", "jais2", "jamba", "jetmoe", "kimi_linear",
    "laguna", "lfm2", "lfm2_moe", "llama", "llama4_text", "longcat_flash", "mamba", "mamba2", "marian", "mbart",
    "mimo_v2_flash", "minicpm3", "minimax", "minimax_m2", "ministral", "ministral3", "mistral", "mixtral",
    "modernbert-decoder", "mpt", "mvp", "nanochat", "nemotron", "nemotron_h", "olmo", "olmo2", "olmo3",
    "olmo_hybrid", "olmoe", "openai-gpt", "opt", "pegasus", "persimmon", "phi", "phi3", "phimoe", "plbart",
    "prophetnet", "qwen2", "qwen2_moe", "qwen3", "qwen3_5_text", "qwen3_moe", "qwen3_next", "recurrent_gemma",
    "rwkv", "seed_oss", "smollm3", "solar_open", "stablelm", "starcoder2", "vaultgemma", "xglm", "xlstm", "youtu",
    "zamba", "zamba2",
))  # fmt: skip
# Encoder-decoders of text.
SEQ2SEQ_TYPES = frozenset((
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "led", "longt5", "m2m_100", "marian", "mbart",
    "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "switch_transformers", "t5", "umt5",
))  # fmt: skip
# Models that look at images and write, each held against transformers' own `generate` in a test.
SEEING_TYPES = frozenset((
    "hyperclovax_vision_v2", "idefics3", "llava", "llava_next", "qwen2_5_vl", "qwen2_vl", "smolvlm",
))  # fmt: skip
# Those of them that run from ONNX files too, held likewise.
SEEING_GRAPH_TYPES = frozenset(("idefics3", "llava", "qwen2_vl", "smolvlm"))
# Types that transformers does not know and that are implemented here (core/worker/architectures): they see, too.
OWN_TYPES = frozenset(("hyperclovax_vlm",))
# Other types of transformers that are met under sentence-transformers, or whose repositories name code as well.
_OTHER_NATIVE_TYPES = frozenset(("gemma3",))
NATIVE_TYPES = ENCODER_TYPES | CAUSAL_TYPES | SEQ2SEQ_TYPES | SEEING_TYPES | _OTHER_NATIVE_TYPES

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
    ("ForImageClassification", (Task.IMAGE_CLASSIFICATION,)),
    ("ForPreTraining", (Task.FEATURE_EXTRACTION,)),
)
# The same heads under names of their own.
_NAMED_HEADS: dict[str, tuple[Task, ...]] = {
    "XLMWithLMHeadModel": (Task.FILL_MASK, Task.FEATURE_EXTRACTION),
    "FlaubertWithLMHeadModel": (Task.FILL_MASK, Task.FEATURE_EXTRACTION),
}
# What an encoder-decoder does by its type; the others write whatever text they were trained to.
_SEQ2SEQ_TASKS: dict[str, tuple[Task, ...]] = {
    **dict.fromkeys(("m2m_100", "marian", "nllb-moe"), (Task.TRANSLATION, Task.TEXT2TEXT_GENERATION)),
    **dict.fromkeys(
        ("bigbird_pegasus", "led", "pegasus", "pegasus_x"), (Task.SUMMARIZATION, Task.TEXT2TEXT_GENERATION)
    ),
}
_SEQ2SEQ_HEADS = ("ForConditionalGeneration", "MTModel")
_SEEING_HEADS = ("ForConditionalGeneration", "ForCausalLM")
_CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")
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
    if model_type in SEEING_TYPES | OWN_TYPES and architecture.endswith(_SEEING_HEADS):
        return (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    for ending, tasks in _HEADS:
        if architecture.endswith(ending):
            return tasks
    if architecture.endswith(_CAUSAL_HEADS) and model_type not in ENCODER_TYPES:
        return (Task.TEXT_GENERATION,)
    if architecture.endswith(_SEQ2SEQ_HEADS) and model_type in SEQ2SEQ_TYPES:
        return seq2seq_tasks(model_type, pipeline_tag)
    is_bare = architecture.endswith("Model") and not architecture.endswith(_OTHER_HEADS)
    if is_bare and (model_type in ENCODER_TYPES or pipeline_tag in ("feature-extraction", "sentence-similarity")):
        return (Task.FEATURE_EXTRACTION,)
    return ()


def seq2seq_tasks(model_type: str, stated: str | None) -> tuple[Task, ...]:
    """The tasks of an encoder-decoder, first the one that is stated, if any."""
    tasks = _SEQ2SEQ_TASKS.get(model_type, TEXT_TO_TEXT_TASKS)
    first = tuple(task for task in TEXT_TO_TEXT_TASKS if task == stated)
    return tuple(dict.fromkeys((*first, *tasks)))


def model_type_of(config: dict[str, Any], architecture: str) -> str:
    """`model_type` of a configuration, or what its architecture implies; empty when neither says."""
    stated = config.get("model_type")
    if isinstance(stated, str) and stated:
        return stated[:64]
    return next((kind for prefix, kind in _PREFIXES.items() if architecture.startswith(prefix)), "")


def supported() -> str:
    """The tasks of this version as one line, for messages."""
    return ", ".join(Task)
