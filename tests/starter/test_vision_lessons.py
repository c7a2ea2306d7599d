"""What the vision starter is told beside the answers: the tokens of a picture that is known, and where to look."""

from __future__ import annotations

import math
import random
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from starter.corpus.vision import FIRST, FREE, WEIGHTS, Conversations, Questions, Talk, Turn
from starter.corpus.vision_answers import ANSWERS, places
from starter.corpus.vision_slots import Slots
from starter.scenes import Scene, Thing
from starter.supervised_attention import SupervisedAttention
from starter.symbols import Symbols, known
from starter.train_vision import Lesson
from starter.training import rate
from starter.vision_batches import Encoder, batches, collate, drawings
from starter.vision_model import IMAGE, TOKENS, make_model, make_tokenizer

CIRCLE = Thing("circle", "red", 0.2, 0.2, 0.17, (255, 0, 0), 0, False)
STAR = Thing("star", "red", 0.8, 0.2, 0.34, (255, 0, 0), 0, False)
SQUARE = Thing("square", "blue", 0.5, 0.8, 0.1, (0, 0, 255), 0, False)
OTHER = Thing("square", "red", 0.5, 0.8, 0.1, (255, 0, 0), 0, False)
SCENE = Scene((CIRCLE, STAR, SQUARE), "black", (0, 0, 0))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    talks = Conversations(random.Random("words"), easy_first=False)
    turns = [turn for _ in range(500) for turn in talks.draw().turns]
    return make_tokenizer([text for turn in turns for text in (turn.question, turn.answer)], 1000)


def test_what_is_known_of_a_scene() -> None:
    cells, sizes = known(SCENE)
    assert cells[:3] == [(1, 1, 2), (0, 0, 2), (4, 1, 2)]
    assert cells[7] == (2, 5, 2)
    assert sizes[:3] == [
        pytest.approx(math.log(0.17 / 0.134) / 0.22),
        0.0,
        pytest.approx(math.log(0.34 / 0.134) / 0.22),
    ]
    assert sizes[7] < 0
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
    wanted = words("star", "별") + words("red", "빨간") + words("오른쪽", "위", "top", "right") + background
    wanted = wanted + math.log(0.34 / 0.134) / 0.22 * size
    assert torch.allclose(told[0, 2], wanted, atol=1e-6)
    assert torch.allclose(told[0, 4], centre + background, atol=1e-6)
    assert torch.allclose(told[1, 4], centre + symbols.background.weight[0], atol=1e-6)
    blurred = symbols.blurred([SCENE, None], 3)
    assert torch.equal(blurred, symbols.blurred([SCENE, None], 3))
    assert 0.02 < (blurred - told).std() < 0.1


@pytest.mark.parametrize(
    ("kind", "slots", "wanted"),
    [
        ("where", Slots("star", "red"), ((2,),)),
        ("where", Slots(None, "red"), ((0,), (2,))),
        ("count_of", Slots(None, "red"), ((0, 2),)),
        ("count_of", Slots("heart"), ()),
        ("colour", Slots("square"), ((7,),)),
        ("shape", Slots(None, "red"), ((0,), (2,))),
        ("check", Slots("square", "pink"), ((7,),)),
        ("place", Slots(cell=4), ((4,),)),
        ("largest", Slots(), ((2,),)),
        ("smallest", Slots(), ((7,),)),
        ("describe", Slots(), ((0, 2, 7), (0,), (2,), (7,))),
        ("where_one", Slots(), ((0, 2, 7), (0,), (2,), (7,))),  # "it" is nothing known: all is told
        ("colours", Slots(), ((0, 2), (7,))),
        ("shapes", Slots(), ((0,), (7,), (2,))),  # in the order in which shapes are told
        ("count", Slots(), ((0, 2, 7),)),
        ("background", Slots(), ()),
    ],
)
def test_where_to_look_for_what_is_meant(kind: str, slots: Slots, wanted: tuple[tuple[int, ...], ...]) -> None:
    assert places(kind, slots, SCENE, None) == wanted


def test_it_is_looked_for_where_the_thing_before_was() -> None:
    questions = Questions(random.Random(1))
    scene = Scene((STAR, SQUARE), "black", (0, 0, 0))
    before = next(asked for _ in range(50) if (asked := questions.ask("colour", scene, "en")) and asked.about == SQUARE)
    assert places("where_one", Slots(), scene, before) == ((7,),)
    after = questions.ask("where_one", scene, "en", before)
    assert after is not None
    assert after.about == SQUARE  # and so on


def test_looks_are_at_the_names_of_the_question_and_the_tokens_meant(tokenizer: Any) -> None:
    scene = Scene((STAR, SQUARE), "black", (0, 0, 0))
    turns = [
        Turn("where", "en", "Where is the red star?", "The red star is at the top right.", 0, ((2,),)),
        Turn("hello", "en", "Hello", "Hello, send me a picture."),
        Turn("count_of", "ko", "빨간 도형은 몇 개야?", "빨간 도형이 두 개 있어요.", None, ((0, 2),)),
        Turn("colour", "en", "And the square?", "The square is blue.", 1, ((7,),)),
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


def test_it_is_what_the_question_before_named(tokenizer: Any) -> None:
    asked = [
        Turn("where", "en", "Where is the blue square?", "The blue square is at the bottom.", 0, ((7,),)),
        Turn("shape_one", "en", "What is it?", "It is a square.", None, ((7,),)),
        Turn("colour_one", "en", "What colour is it?", "It is blue.", None, ((7,),)),
        Turn(
            "shape_one", "ko", "무슨 모양이야?", "원 한 개, 사각형 한 개, 별 한 개가 보여요.", None, ((0,), (7,), (2,))
        ),
    ]
    assert named(tokenizer, Talk(None, [SCENE], asked)) == [["blue", "square"]] * 3 + [[]]


def test_it_is_nothing_that_was_named_of_another_picture_or_of_several_or_none(tokenizer: Any) -> None:
    lone = Scene((SQUARE,), "white", (255, 255, 255))
    how_many = Turn("count_of", "en", "How many red shapes?", "There are two red shapes.", None, ((0, 2),))
    asked = [
        Turn("where", "en", "Where is the blue square?", "The blue square is at the bottom.", 0, ((7,),)),
        Turn("colour_one", "en", "What colour is it?", "It is blue.", 1, ((7,),)),
        how_many,
        Turn("colour_one", "en", "What colour are they?", "I see red.", None, ((0, 2),)),
        Turn("exist", "en", "Is there a pink star?", "There are no pink stars."),
        Turn("shape_one", "en", "What is it?", "There are no shapes."),
    ]
    found = named(tokenizer, Talk(None, [SCENE, lone], asked))
    assert found == [["blue", "square"], [], ["red"], [], ["pink", "star"], []]


def named(tokenizer: Any, talk: Talk) -> list[list[str]]:
    """The names at which one looks as each of the answers begins."""
    row = Encoder(tokenizer)(talk)
    ends = [at for at, each in enumerate(row.ids) if each == tokenizer.eos_token_id][::2]
    return [[tokenizer.decode([row.ids[name]]).strip() for name in row.looks[at + 1][0]] for at in ends]


REVERSED = Scene((replace(SQUARE, x=0.2, y=0.2), STAR), "black", (0, 0, 0))  # blue before red
LISTS: list[tuple[str, str, Slots, Scene, list[tuple[str, list[str], list[int]]]]] = [
    # kind; question; parts of the answer, each with the names and the cells at which one looks to tell it
    ("describe", "What is there?", Slots(), SCENE, [
        ("There are three shapes on a black background", [], [0, 2, 7]),
        (": a red circle at the top left", [], [0]),
        (", a red star at the top right", ["top", "left"], [2]),
        (" and a blue square at the bottom.", ["top", "right"], [7]),
    ]),
    ("describe", "뭐가 있어?", Slots(), SCENE, [
        ("검은색 배경에 도형 세 개", [], [0, 2, 7]),
        (": 왼쪽 위에 빨간 원", [], [0]),
        (", 오른쪽 위에 빨간 별", ["왼쪽", "위"], [2]),
        (", 아래쪽 가운데에 파란 사각형이 있어요.", ["오른쪽", "위"], [7]),
    ]),
    ("where", "Where are the red shapes?", Slots(None, "red"), SCENE, [
        ("The red shapes are at the top left", ["red"], [0]),
        (" and at the top right.", ["red", "top", "left"], [2]),
    ]),
    ("colour", "사각형은 무슨 색이야?", Slots("square"), Scene((*REVERSED.things, OTHER), "black", (0, 0, 0)), [
        ("사각형은 빨간색", ["사각형"], [7]), (", 파란색이에요.", ["사각형", "빨간"], [0]),
    ]),
    ("colours", "Which colours?", Slots(), REVERSED, [("I see red", [], [2]), (" and blue.", ["red"], [0])]),
    ("colours", "무슨 색?", Slots(), REVERSED, [("빨간색", [], [2]), (", 파란색이 보여요.", ["빨간"], [0])]),
    ("shapes", "Which shapes?", Slots(), SCENE, [
        ("I see one circle", [], [0]), (", one square", ["circle"], [7]), (" and one star.", ["square"], [2]),
    ]),
    ("shapes", "어떤 도형?", Slots(), SCENE, [
        ("원 한 개", [], [0]), (", 사각형 한 개", ["원"], [7]), (", 별 한 개가 보여요.", ["사각형"], [2]),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "question", "slots", "scene", "parts"), LISTS)
def test_a_list_looks_at_one_thing_after_another_and_at_what_was_told_last(
    tokenizer: Any, kind: str, question: str, slots: Slots, scene: Scene, parts: list[tuple[str, list[str], list[int]]]
) -> None:
    lang, answer = "en" if question.isascii() else "ko", "".join(part for part, _, _ in parts)
    if slots == Slots():
        asked = ANSWERS[kind](scene, lang, random.Random(1), None)
        assert asked == (slots, answer)
    turn = Turn(kind, lang, question, answer, 0, places(kind, slots, scene, None))
    row = Encoder(tokenizer)(Talk(None, [scene], [turn]))
    first = row.ids.index(tokenizer.convert_tokens_to_ids(IMAGE))
    begin = next(at for at, label in enumerate(row.labels) if label != -100)
    told = [
        (row.ids[at], [tokenizer.decode([row.ids[name]]).strip() for name in names], [cell - first for cell in cells])
        for at in range(begin, len(row.ids) - 1)
        for names, cells in [row.looks[at - 1]]  # from where this token is told
    ]
    for part, names, cells in parts:
        length = next(
            each for each in range(1, len(told) + 1)
            if tokenizer.decode([token for token, *_ in told[:each]]).strip() == part.strip()
        )  # fmt: skip
        assert all(each[1:] == (names, cells) for each in told[:length])
        told = told[length:]
    assert told == []


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


def test_the_rate_comes_down_as_far_as_it_is_told() -> None:
    times = (0, 0.03, 0.06, 0.53, 1)
    assert [rate(done, 2, end=0.5) for done in times] == pytest.approx([0.02, 1.01, 2, 1.5, 1])
    assert [rate(done, 2) for done in times] == pytest.approx([0.02, 1.01, 2, 1.01, 0.02])


def test_words_attend_to_their_like_from_the_beginning(tokenizer: Any) -> None:
    model = make_model(tokenizer)
    for layer in model.model.text_model.layers:
        keys = layer.self_attn.k_proj.weight.view(3, 32, 192)
        queries = layer.self_attn.q_proj.weight.view(3, 2, 32, 192)
        assert torch.allclose(keys @ keys.transpose(1, 2), torch.eye(32).expand(3, 32, 32), atol=1e-5)
        assert torch.equal(queries, keys[:, None].expand(3, 2, 32, 192))
