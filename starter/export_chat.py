"""The chat starter's weights in other formats: `python -m starter.export_chat` writes GGUF (q8_0) and ONNX beside them.

GGUF as llama.cpp's converter lays a LLaMA out: tensor names of its `llama` architecture, rows of the query and key
weights in the order that its rotary embedding reads them. ONNX as the Hub publishes decoders: input_ids,
attention_mask, position_ids and past key-values in, logits and present key-values out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from starter.train_chat import DIRECTORY

_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_OUTSIDE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def write_gguf(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("Berth starter chat")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    _add_vocabulary(writer, tokenizer)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied to the embedding
            _add_tensor(writer, name, tensor.float().numpy(), config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_vocabulary(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    kinds = [gguf.TokenType.NORMAL] * len(tokens)
    for at, token in tokenizer.added_tokens_decoder.items():
        kinds[at] = gguf.TokenType.CONTROL if token.special else gguf.TokenType.USER_DEFINED
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _add_tensor(writer: gguf.GGUFWriter, name: str, array: np.ndarray, config: object) -> None:
    if name in _OUTSIDE:
        renamed = _OUTSIDE[name]
    else:
        _, _, layer, *middle, _ = name.split(".")
        part = ".".join(middle)
        renamed = f"blk.{layer}.{_LAYER[part]}.weight"
        if part.endswith("q_proj"):
            array = _interleaved(array, config.num_attention_heads)  # type: ignore[attr-defined]
        elif part.endswith("k_proj"):
            array = _interleaved(array, config.num_key_value_heads)  # type: ignore[attr-defined]
    if array.ndim == 1:
        writer.add_tensor(renamed, array)
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor(renamed, gguf.quants.quantize(array, kind), raw_dtype=kind)


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from halves that rotate together to neighbours that do."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


class _Step(torch.nn.Module):
    """One reading with the cache as plain tensors."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, *past: torch.Tensor):  # noqa: ANN201
        cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
        out = self.model(ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True)
        present = [each for layer in out.past_key_values.layers for each in (layer.keys, layer.values)]
        return (out.logits, *present)


def write_onnx(model: LlamaForCausalLM, path: Path) -> None:
    config = model.config
    path.parent.mkdir(exist_ok=True)
    head = config.hidden_size // config.num_attention_heads
    past = [torch.zeros(2, config.num_key_value_heads, 3, head) for _ in range(2 * config.num_hidden_layers)]
    names = [f"{layer}.{part}" for layer in range(config.num_hidden_layers) for part in ("key", "value")]
    inputs = ["input_ids", "attention_mask", "position_ids", *(f"past_key_values.{name}" for name in names)]
    outputs = ["logits", *(f"present.{name}" for name in names)]
    rows = {0: "batch_size"}
    axes = {
        "input_ids": {**rows, 1: "sequence_length"},
        "attention_mask": {**rows, 1: "total_sequence_length"},
        "position_ids": {**rows, 1: "sequence_length"},
        "logits": {**rows, 1: "sequence_length"},
        **{f"past_key_values.{name}": {**rows, 2: "past_sequence_length"} for name in names},
        **{f"present.{name}": {**rows, 2: "total_sequence_length"} for name in names},
    }
    example = (torch.ones(2, 4, dtype=torch.long), torch.ones(2, 7, dtype=torch.long), torch.arange(3, 7).expand(2, 4))
    torch.onnx.export(
        _Step(model).eval(), (*example, *past), str(path), input_names=inputs, output_names=outputs,
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=DIRECTORY)
    directory = parser.parse_args().directory
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    write_gguf(model, tokenizer, directory / "chat-q8_0.gguf")
    with torch.no_grad():
        write_onnx(model, directory / "onnx" / "model.onnx")


if __name__ == "__main__":
    main()
