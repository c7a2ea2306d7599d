"""Trains starter/sentiment from the encoder of starter/embed: `python -m starter.train_sentiment`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, ElectraForSequenceClassification

from starter import training
from starter.corpus.noise import misspelt
from starter.corpus.sentiment import LABELS, Labelled, corpus

NAMES = list(LABELS.values())
BATCH, SENTENCES, SEED = 96, 60_000, 20240305
SHOWN = 40  # tokens of a text that training looks at; few have more


def batches(
    tokenizer: Tokenizer, labelled: list[Labelled], source: random.Random
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Ids and mask (batch, length) and label numbers (batch,), for ever; some tokens are masked at random."""
    pad, mask = tokenizer.token_to_id("[PAD]"), tokenizer.token_to_id("[MASK]")
    while True:
        source.shuffle(labelled)
        for at in range(0, len(labelled) - BATCH + 1, BATCH):
            chosen = labelled[at : at + BATCH]
            encoded = tokenizer.encode_batch_fast([misspelt(one.text, source) for one in chosen])
            shown = [one.ids[:SHOWN] for one in encoded]
            length = max(map(len, shown))
            ids = torch.tensor([one + [pad] * (length - len(one)) for one in shown])
            hidden = (torch.rand(ids.shape) < 0.06) & (ids >= len(training.SPECIALS))
            yield (
                ids.masked_fill(hidden, mask),
                (ids != pad).long(),
                torch.tensor([NAMES.index(one.label) for one in chosen]),
            )


def build_model(encoder: Path) -> ElectraForSequenceClassification:
    return ElectraForSequenceClassification.from_pretrained(
        encoder,
        id2label=dict(enumerate(NAMES)),
        label2id={name: number for number, name in enumerate(NAMES)},
        classifier_dropout=0.2,
        problem_type="single_label_classification",
    )


def main() -> None:
    parser = training.options(__doc__, "sentiment", steps=1000)
    parser.add_argument("--encoder", type=Path, default=training.HERE / "embed")
    options = parser.parse_args()
    source = training.seed_everything(SEED, options.threads)
    labelled = list(corpus(SEED, SENTENCES))
    tokenizer = AutoTokenizer.from_pretrained(options.encoder).backend_tokenizer
    length = 128
    tokenizer.enable_truncation(length)
    model = build_model(options.encoder)

    def loss_of(batch: object) -> torch.Tensor:
        ids, mask, labels = batch  # type: ignore[misc]
        positions = training.random_positions(ids, length, source)
        return cross_entropy(
            model(input_ids=ids, attention_mask=mask, position_ids=positions).logits, labels, label_smoothing=0.05
        )

    tokenizer.model.dropout = 0.1
    seconds = training.fit(
        model, batches(tokenizer, labelled, source), loss_of, options.steps, peak=4e-4, minutes=options.minutes
    )
    tokenizer.model.dropout = None
    training.save(model, training.wrap(tokenizer, length), options.out)
    print(f"trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
