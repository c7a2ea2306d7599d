"""Byte-pair tokenizer over lower-case letters and Hangul jamo, for sentences whose offsets do not matter."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from starter import training

JAMO = [
    chr(code)
    for first, last in ((0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0x3131, 0x3163))
    for code in range(first, last + 1)
]
EMOJI = list("😀😁😂🤣😊😍🥰😘😋😎🤩🥳🙂😐🙄😒😞😢😭😡😠🤬🤮🤢😴💔👍👎👏🙏💯🔥✨🎉💕♥❤⭐★☆✅❌‼")


def build(texts: Iterable[str], size: int, length: int) -> Tokenizer:
    """A tokenizer of `size` pieces that cuts at `length` tokens.

    Hangul is taken apart (NFD) so that endings share pieces whatever syllable they melt into; every syllable can be
    written with the letters, so none is unknown.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(training.SPECIALS.values()),
        initial_alphabet=JAMO + EMOJI + [chr(code) for code in range(33, 127)],
        min_frequency=2,
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    tokenizer.enable_truncation(length)
    return tokenizer
