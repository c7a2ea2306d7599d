"""The model card of an imported classifier."""

from __future__ import annotations

from collections.abc import Sequence

_EXACT = (
    "SentencePiece 모델로 원본과 똑같이 자릅니다.",
    "Text is cut exactly as the SentencePiece model cuts it.",
)
_GUESSED = (
    "**SentencePiece 모델 없이 만들었습니다.** 단어를 자르는 위치를 어휘 목록에서 추정하므로"
    " 예측이 원본과 다를 수 있습니다. KoBERT의 `.spiece` 파일을 구해 `--spiece`로 다시 변환하세요.",
    "**Made without the SentencePiece model.** Where words are cut is guessed from the vocabulary, so predictions can"
    " differ from the original's. Find KoBERT's `.spiece` file and convert again with `--spiece`.",
)


def card(name: str, labels: Sequence[str], exact: bool) -> str:
    """README.md of the model directory `name`, Korean first."""
    korean, english = _EXACT if exact else _GUESSED
    listed = "\n".join(f"- `{label}`" for label in labels)
    return f"""---
language: ko
library_name: transformers
pipeline_tag: text-classification
---
# {name}

gluonnlp 시절의 KoBERT 분류기(`textClassifierModel.pt`, `category.pkl`, `vocab.pkl`)를 \
`scripts/import_kobert.py`로 변환한 모델입니다. 가중치는 float32이며, int8로 양자화된 층은 \
저장된 scale과 zero point로 되돌렸습니다.

{korean}

A KoBERT classifier of the gluonnlp era, converted by `scripts/import_kobert.py`. The weights are float32; layers that
were int8 were brought back by their stored scale and zero point.

{english}

## 레이블 · Labels

{listed}
"""
