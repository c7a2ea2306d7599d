"""The tables of architectures, held against the installed transformers."""

from __future__ import annotations

import pytest
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from core.hub.architectures import (
    CAUSAL_TYPES,
    ENCODER_TYPES,
    NATIVE_TYPES,
    OFFSET_POSITIONS,
    OWN_TYPES,
    SEEING_TYPES,
    SEQ2SEQ_TYPES,
    model_type_of,
    tasks_of,
)
from core.types import Task
from core.worker.runtimes import transformers_vision

MAPPINGS = {
    Task.TEXT_CLASSIFICATION: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    Task.TOKEN_CLASSIFICATION: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    Task.QUESTION_ANSWERING: modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    Task.FILL_MASK: modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}


def test_native_types_are_known_to_transformers() -> None:
    assert set(CONFIG_MAPPING_NAMES) >= NATIVE_TYPES
    assert NATIVE_TYPES >= OFFSET_POSITIONS


@pytest.mark.parametrize("task", MAPPINGS)
def test_every_head_that_transformers_makes_is_told(task: Task) -> None:
    for model_type in ENCODER_TYPES & set(MAPPINGS[task]):
        architecture = MAPPINGS[task][model_type]
        assert tasks_of(architecture, model_type, None)[:1] == (task,), architecture


def test_every_causal_model_of_transformers_generates() -> None:
    names = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert set(names) >= CAUSAL_TYPES
    assert not CAUSAL_TYPES & ENCODER_TYPES
    for model_type in CAUSAL_TYPES - {"bert-generation"}:
        assert tasks_of(names[model_type], model_type, None) == (Task.TEXT_GENERATION,), model_type


def test_every_encoder_decoder_of_text_writes_text() -> None:
    names = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    assert set(names) >= SEQ2SEQ_TYPES
    for model_type in SEQ2SEQ_TYPES:
        assert Task.TEXT2TEXT_GENERATION in tasks_of(names[model_type], model_type, None), model_type


def test_models_that_see_look_and_write() -> None:
    names = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    assert set(names) >= SEEING_TYPES
    for model_type in SEEING_TYPES:
        assert tasks_of(names[model_type], model_type, None) == (Task.IMAGE_TEXT_TO_TEXT, Task.TEXT_GENERATION)
    assert not OWN_TYPES & set(CONFIG_MAPPING_NAMES)  # transformers knows one now: its own is to be used
    assert transformers_vision.OWN.keys() == OWN_TYPES


def test_bare_encoders_give_embeddings() -> None:
    for model_type in ENCODER_TYPES & set(modeling_auto.MODEL_MAPPING_NAMES):
        names = modeling_auto.MODEL_MAPPING_NAMES[model_type]
        for architecture in [names] if isinstance(names, str) else names:
            assert tasks_of(architecture, model_type, None) == (Task.FEATURE_EXTRACTION,), architecture


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [
        ("T5Model", "t5"),
        ("XLNetLMHeadModel", "xlnet"),
        ("GPT2DoubleHeadsModel", "gpt2"),
        ("ViTForMaskedImageModeling", "vit"),
        ("VideoLlavaForConditionalGeneration", "video_llava"),
        ("BertForNextSentencePrediction", "bert"),
        ("BertForMultipleChoice", "bert"),
        ("BertLMHeadModel", "bert"),
        ("WhisperForConditionalGeneration", "whisper"),
        ("CLIPModel", "clip"),
        ("", ""),
    ],
)
def test_other_heads_are_none_of_ours(architecture: str, model_type: str) -> None:
    assert tasks_of(architecture, model_type, None) == ()


@pytest.mark.parametrize(
    ("architecture", "model_type"),
    [("BertModel", "bert"), ("XLMRobertaForMaskedLM", "xlm-roberta"), ("RobertaModel", "roberta"), ("MyModel", "")],
)
def test_a_type_that_is_not_stated_comes_from_the_architecture(architecture: str, model_type: str) -> None:
    assert model_type_of({}, architecture) == model_type
    assert model_type_of({"model_type": "electra"}, architecture) == "electra"
