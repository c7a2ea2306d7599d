"""Trains starter/ner: `python -m starter.train_ner` writes the model directory anew."""

from __future__ import annotations

import random
from collections.abc import Iterator

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ElectraConfig, ElectraForTokenClassification, PreTrainedTokenizerFast

from starter import training
from starter.corpus import korean
from starter.corpus.ner import Tagged, corpus

LABELS = ["O"] + [f"{part}-{kind}" for kind in ("PER", "ORG", "LOC", "DAT") for part in ("B", "I")]
LENGTH, BATCH, SENTENCES, SEED = 512, 32, 160_000, 20240305
HANGUL = [chr(code) for code in range(korean.FIRST_SYLLABLE, korean.LAST_SYLLABLE + 1)]


def build_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Every Hangul syllable, digit, sign and blank is a token; English is cut in WordPieces.

    A name can therefore always be split from its particle, and a decoded span is the text itself.
    """
    ascii_ = [chr(code) for code in range(32, 127)]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    cuts = [
        pre_tokenizers.Split(Regex(r"[^\x21-\x7E]"), "isolated"),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.Punctuation("isolated"),
    ]
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s"), " ")  # no NFC: it would move the offsets
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("##", ""), decoders.Fuse()])
    trainer = trainers.WordPieceTrainer(
        vocab_size=4500,
        special_tokens=list(training.SPECIALS.values()),
        initial_alphabet=ascii_,
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for text in texts if text.isascii()), trainer)
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    known = set(pieces)
    extra = (
        [f"##{char}" for char in ascii_ if char.isalpha()]
        + [chr(code) for code in range(0xC0, 0x180)]
        + list("“”‘’…·ㅋㅎㅠㅜ▲△○●")
        + [chr(code) for code in range(0x1100, 0x1200)]
    )
    pieces += [piece for piece in [*extra, *HANGUL] if piece not in known]
    tokenizer.model = models.WordPiece(
        {piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]", max_input_chars_per_word=40
    )
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return training.wrap(tokenizer, LENGTH)


def token_labels(tagged: Tagged, offsets: list[tuple[int, int]]) -> list[int]:
    """Label number of each token, -100 for tokens without characters."""
    numbers = [0] * len(tagged.text)
    for span in tagged.spans:
        begin = LABELS.index(f"B-{span.label}")
        numbers[span.start : span.end] = [begin] + [begin + 1] * (span.end - span.start - 1)
    return [numbers[start] if end > start else -100 for start, end in offsets]


def batches(
    tokenizer: PreTrainedTokenizerFast, tagged: list[Tagged], source: random.Random
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Batches of similar length, in random order, for ever: ids, mask and labels, each (batch, length)."""
    unknown = tokenizer.unk_token_id
    while True:
        source.shuffle(tagged)
        for at in range(0, len(tagged) - BATCH * 16 + 1, BATCH * 16):
            window = sorted(tagged[at : at + BATCH * 16], key=lambda one: len(one.text))
            groups = [window[first : first + BATCH] for first in range(0, len(window), BATCH)]
            source.shuffle(groups)
            for group in groups:
                encoded = tokenizer(
                    [one.text for one in group],
                    padding=True,
                    truncation=True,
                    return_offsets_mapping=True,
                    return_tensors="pt",
                )
                labels = [
                    token_labels(one, offsets)
                    for one, offsets in zip(group, encoded["offset_mapping"].tolist(), strict=True)
                ]
                ids = encoded["input_ids"]
                lost = (torch.rand(ids.shape) < 0.03) & (ids >= len(training.SPECIALS))
                yield ids.masked_fill(lost, unknown), encoded["attention_mask"], torch.tensor(labels)


def compose_hangul(model: ElectraForTokenClassification, tokenizer: PreTrainedTokenizerFast) -> None:
    """Begins each syllable as the sum of its letters, so that rare syllables resemble common ones."""
    weight = model.electra.embeddings.word_embeddings.weight
    ids = torch.tensor(tokenizer.convert_tokens_to_ids(HANGUL))
    codes = torch.arange(len(HANGUL))
    parts = [codes // 588, 19 + codes // korean.CODAS % 21, 40 + codes % korean.CODAS]
    letters = torch.randn(19 + 21 + korean.CODAS, weight.shape[1]) * model.config.initializer_range / 3**0.5
    with torch.no_grad():
        weight[ids] = 0.5 * weight[ids] + sum(letters[part] for part in parts)


def build_model(tokenizer: PreTrainedTokenizerFast) -> ElectraForTokenClassification:
    config = ElectraConfig(
        vocab_size=len(tokenizer),
        embedding_size=96,
        hidden_size=160,
        num_hidden_layers=3,
        num_attention_heads=5,
        intermediate_size=480,
        max_position_embeddings=LENGTH,
        pad_token_id=tokenizer.pad_token_id,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        initializer_range=0.04,
        hidden_dropout_prob=0.05,
        attention_probs_dropout_prob=0.0,
    )
    model = ElectraForTokenClassification(config)
    compose_hangul(model, tokenizer)
    return model


def main() -> None:
    options = training.options(__doc__, "ner", steps=5000).parse_args()
    source = training.seed_everything(SEED, options.threads)
    tagged = list(corpus(SEED, SENTENCES))
    tokenizer = build_tokenizer([one.text for one in tagged[:40_000]])
    model = build_model(tokenizer)
    print(f"{model.num_parameters() * 4 / 1e6:.1f} MB, {len(tokenizer)} tokens", flush=True)

    def loss_of(batch: object) -> torch.Tensor:
        ids, mask, labels = batch  # type: ignore[misc]
        positions = training.random_positions(ids, LENGTH, source)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.02)

    seconds = training.fit(
        model, batches(tokenizer, tagged, source), loss_of, options.steps, peak=1.2e-3, minutes=options.minutes
    )
    training.save(model, tokenizer, options.out)
    print(f"trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
