"""What the vision starter is told beside the answers: the tokens of a picture that is known, and where to look."""

from __future__ import annotations

import math
import random
import threading
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from starter.corpus.vision import FIRST, FREE, WEIGHTS, Conversations, Questions, Talk, Turn
from starter.corpus.vision_answers import places
from starter.corpus.vision_slots import Slots
from starter.scenes import Scene, Thing
from starter.supervised_attention import SupervisedAttention
from starter.symbols import Symbols, known
from starter.train_vision import Lesson
from starter.vision_batches import Encoder, batches, collate, drawings
from starter.vision_model import IMAGE, TOKENS, make_model, make_tokenizer

CIRCLE = Thing("circle", "red", 0.2, 0.2, 0.17, (255, 0, 0), 0, False)
STAR = Thing("star", "red", 0.8, 0.2, 0.34, (255, 0, 0), 0, False)
SQUARE = Thing("square", "blue", 0.5, 0.8, 0.1, (0, 0, 255), 0, False)
SCENE = Scene((CIRCLE, STAR, SQUARE), "black", (0, 0, 0))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    talks = Conversations(random.Random("words"), easy_first=False)
    return make_tokenizer([turn.question for _ in range(500) for turn in talks.draw().turns], 1000)


def test_what_is_known_of_a_scene() -> None:
    cells, sizes = known(SCENE)
    assert cells[:3] == [(1, 1, 2), (0, 0, 2), (4, 1, 2)]
    assert cells[7] == (2, 5, 2)
    assert sizes[:3] == [pytest.approx(0.5), 0.0, pytest.approx(1.0)]
    assert known(None) == ([(0, 0, 0)] * TOKENS, [0.0] * TOKENS)


def test_a_token_is_the_sum_of_the_words_for_what_is_there(tokenizer: Any) -> None:
    embeddings = torch.nn.Embedding(len(tokenizer), 8)
    symbols = Symbols(tokenizer, embeddings)
    told = symbols([SCENE, None])
    assert told.shape == (2, TOKENS, 8)

    def words(*names: str) -> torch.Tensor:
        pieces = [tokenizer.encode(name, add_special_tokens=False) for name in names]
        assert all(len(piece) == 1 for piece in pieces)
        return embeddings.weight[[piece[0] for piece in pieces]].sum(0) / math.sqrt(len(names))

    background, size = symbols.background.weight[2], symbols.size.weight[:, 0]
    centre = words("한가운데", "centre")
    wanted = words("star", "별") + words("red", "빨간") + words("오른쪽", "위", "top", "right") + background + size
    assert torch.allclose(told[0, 2], wanted, atol=1e-6)
    assert torch.allclose(told[0, 4], centre + background, atol=1e-6)
    assert torch.allclose(told[1, 4], centre + symbols.background.weight[0], atol=1e-6)
    blurred = symbols.blurred([SCENE, None], 3)
    assert torch.equal(blurred, symbols.blurred([SCENE, None], 3))
    assert 0.02 < (blurred - told).std() < 0.1


@pytest.mark.parametrize(
    ("kind", "slots", "wanted"),
    [
        ("where", Slots("star", "red"), (2,)),
        ("where", Slots(None, "red"), (0, 2)),
        ("count_of", Slots("heart"), ()),
        ("check", Slots("square", "pink"), (7,)),
        ("place", Slots(cell=4), (4,)),
        ("largest", Slots(), (2,)),
        ("smallest", Slots(), (7,)),
        ("describe", Slots(), (0, 2, 7)),
        ("count", Slots(), ()),
    ],
)
def test_where_to_look_for_what_is_meant(kind: str, slots: Slots, wanted: tuple[int, ...]) -> None:
    assert places(kind, slots, SCENE, None) == wanted


def test_it_is_looked_for_where_the_thing_before_was() -> None:
    questions = Questions(random.Random(1))
    scene = Scene((STAR, SQUARE), "black", (0, 0, 0))
    before = next(asked for _ in range(50) if (asked := questions.ask("colour", scene, "en")) and asked.about == SQUARE)
    assert places("where_one", Slots(), scene, before) == (7,)


def test_looks_are_at_the_names_of_the_question_and_the_tokens_meant(tokenizer: Any) -> None:
    scene = Scene((STAR, SQUARE), "black", (0, 0, 0))
    turns = [
        Turn("where", "en", "Where is the red star?", "The red star is at the top right.", 0, (2,)),
        Turn("count", "en", "How many shapes are there?", "There are three shapes."),
        Turn("shape", "ko", "빨간 도형은 무슨 모양이야?", "빨간 도형은 원, 별이에요.", None, (0, 2)),
        Turn("colour", "en", "And the square?", "The square is blue.", 1, (7,)),
    ]
    row = Encoder(tokenizer)(Talk("Be brief.", [SCENE, scene], turns))
    assert len(row.looks) == len(row.ids) == len(row.labels) == len(row.weights)
    image = tokenizer.convert_tokens_to_ids(IMAGE)
    tokens = [at for at, each in enumerate(row.ids) if each == image]
    ends = [at for at, each in enumerate(row.ids) if each == tokenizer.eos_token_id][1:]  # the first is the system's
    named = [["red", "star"], [], ["빨간"], ["square"]]
    meant = [[tokens[2]], [], [tokens[0], tokens[2]], [tokens[TOKENS + 7]]]
    for asked, answered, names, cells in zip(ends[::2], ends[1::2], named, meant, strict=True):
        for at in range(asked + 1, answered):  # from the token of the assistant on
            assert [tokenizer.decode(row.ids[name]).strip() for name in row.looks[at][0]] == names
            assert all(name < asked for name in row.looks[at][0])
            assert row.looks[at][1] == (cells if at + 1 < answered else [])  # its end tells nothing
            assert row.labels[at + 1] == row.ids[at + 1]
        assert row.looks[answered] == row.looks[asked] == ([], [])
    looks = collate([row], 0, 1).looks
    assert looks.shape == (2, 1, len(row.ids), len(row.ids))
    assert looks[0, 0, ends[0] + 1, row.looks[ends[0] + 1][0]].tolist() == [0.5, 0.5]
    assert looks.sum().item() == pytest.approx(sum(bool(part) for each in row.looks for part in each))


def test_a_description_looks_at_one_thing_after_another(tokenizer: Any) -> None:
    questions = Questions(random.Random(1))
    for lang, parts in DESCRIBED.items():
        asked = questions.ask("describe", SCENE, lang)
        assert asked is not None
        assert asked.answer == "".join(parts)
        row = Encoder(tokenizer)(Talk(None, [SCENE], [Turn("describe", lang, "?", asked.answer, 0, asked.cells)]))
        first = row.ids.index(tokenizer.convert_tokens_to_ids(IMAGE))
        begin = next(at for at, label in enumerate(row.labels) if label != -100)
        told: list[list[int]] = [[], [], [], []]
        for at in range(begin, len(row.ids) - 1):
            meant = row.looks[at - 1][1]  # from where this token is told
            told[[[], [first], [first + 2], [first + 7]].index(meant)].append(row.ids[at])
        assert [tokenizer.decode(each).strip() for each in told] == [part.strip() for part in parts]


DESCRIBED = {
    "en": (
        "There are three shapes on a black background",
        ": a red circle at the top left",
        ", a red star at the top right",
        " and a blue square at the bottom.",
    ),
    "ko": (
        "검은색 배경에 도형 세 개",
        ": 왼쪽 위에 빨간 원",
        ", 오른쪽 위에 빨간 별",
        ", 아래쪽 가운데에 파란 사각형이 있어요.",
    ),
}


def test_conversations_side_by_side_are_padded_behind(tokenizer: Any) -> None:
    encode = Encoder(tokenizer)
    long = encode(Talk(None, [SCENE], [Turn("count", "en", "How many shapes?", "There are three shapes.", 0)]))
    short = encode(Talk(None, [], [Turn("hello", "en", "Hi", "Hello!")]))
    batch, length = collate([short, long], 5, 1), len(short.ids)
    assert batch.ids.tolist() == [short.ids + [5] * (len(long.ids) - length), long.ids]
    assert batch.labels[0, length:].unique().tolist() == [-100]
    assert batch.weights[0, length:].sum() == batch.looks[:, 0, length:].sum() == 0
    assert batch.weights[1].sum().item() == pytest.approx(math.sqrt(sum(label != -100 for label in long.labels)))
    assert batch.drawing.scenes == [SCENE]


def text_model(layers: int = 3) -> LlamaModel:
    torch.manual_seed(1)
    return LlamaModel(
        LlamaConfig(
            vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, initializer_range=0.3,
        )
    )  # fmt: skip


def test_attention_is_held_against_what_is_wanted_by_layer_and_head() -> None:
    """Against the attention that transformers itself returns."""
    model, ids = text_model(), torch.tensor([[1, 2, 3, 4, 5, 6]])
    wanted = torch.zeros(2, 1, 6, 6)
    wanted[0, 0, 3, 1] = 1
    wanted[1, 0, 5, [0, 4]] = 0.5
    with SupervisedAttention(model) as attention:
        told = model(ids, use_cache=False, output_attentions=True).attentions
        first, second = (told[layer][0, :2].log() for layer in (0, 1))
        missed = -first[:, 3, 1].mean() - (second[:, 5, 0] + second[:, 5, 4]).mean() / 2
        assert attention.loss(wanted).item() == pytest.approx(missed.item(), rel=1e-3)
        assert attention.loss(torch.zeros(2, 1, 6, 6)).item() == 0


def test_each_thread_is_told_of_its_own_attention() -> None:
    model, both, told = text_model(), threading.Barrier(2), {}
    torch.nn.init.zeros_(model.layers[0].self_attn.q_proj.weight)  # attention is even

    def run(length: int) -> None:
        model(torch.zeros(1, length, dtype=torch.long), use_cache=False)
        both.wait(60)
        wanted = torch.zeros(2, 1, length, length)
        wanted[0, 0, length - 1, 0] = 1
        told[length] = attention.loss(wanted).item()

    with SupervisedAttention(model) as attention:
        threads = [threading.Thread(target=run, args=(length,)) for length in (4, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert model.config._attn_implementation == "sdpa"
    assert not any(layer.self_attn._forward_hooks for layer in model.layers)
    assert told == {length: pytest.approx(math.log(length), abs=1e-4) for length in (4, 7)}


def test_the_first_conversations_look_things_up() -> None:
    talks = Conversations(random.Random("train"))

    def kinds() -> set[str]:
        return {turn.kind for talk in (talks.draw() for _ in range(300)) for turn in asked_of_pictures(talk)}

    assert kinds() == set(FIRST[1])
    talks._drawn = FIRST[0]
    assert kinds() == set(WEIGHTS)


def asked_of_pictures(talk: Talk) -> list[Turn]:
    first = next((at for at, turn in enumerate(talk.turns) if turn.picture is not None), len(talk.turns))
    return [turn for turn in talk.turns[first:] if turn.kind not in (*FREE, "unknown")]


def test_every_part_teaches_all_that_it_trains(tokenizer: Any) -> None:
    """A gradient for every weight, of losses that are numbers."""
    torch.manual_seed(1)
    model = make_model(tokenizer)
    lesson = Lesson(model, tokenizer)
    talks = batches(tokenizer, Conversations(random.Random("train")), random.Random(1))
    batch, drawing = next(each for each in talks if len(each.drawing.scenes) > 1), next(drawings(random.Random(1)))
    language = torch.nn.ModuleList([model.model.text_model, lesson.symbols])
    sight = torch.nn.ModuleList([model.model.vision_model, model.model.connector, lesson.patches])
    with lesson.attention:
        losses = {"language": (lesson.of_symbols(batch), language)}
    losses["sight"] = (lesson.of_tower(drawing), sight)
    losses["all"] = (lesson.of_pictures(batch), torch.nn.ModuleList([model, lesson.patches]))
    for name, (loss, part) in losses.items():
        grads = torch.autograd.grad(loss, list(part.parameters()))  # raises where a weight has no part in it
        assert math.isfinite(loss.item()), name
        assert all(grad.isfinite().all() for grad in grads), name


def test_words_attend_to_their_like_from_the_beginning(tokenizer: Any) -> None:
    model = make_model(tokenizer)
    for layer in model.model.text_model.layers:
        keys = layer.self_attn.k_proj.weight.view(3, 32, 192)
        queries = layer.self_attn.q_proj.weight.view(3, 2, 32, 192)
        assert torch.allclose(keys @ keys.transpose(1, 2), torch.eye(32).expand(3, 32, 32), atol=1e-5)
        assert torch.equal(queries, keys[:, None].expand(3, 2, 32, 192))
