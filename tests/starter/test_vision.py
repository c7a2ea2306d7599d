"""What the vision starter learns from: scenes, pictures of them, and questions that have one right answer."""

from __future__ import annotations

import random
import re

import pytest
from PIL import Image

from starter import vision_accuracy
from starter.corpus.vision import FEW, Conversations, Questions, ways
from starter.corpus.vision_words import LANGS
from starter.draw_samples import PICTURES, SAMPLES, sample
from starter.scenes import HELD_OUT, MOST, Scene, Thing, draw_scene, paint, paint_clutter
from starter.vision_batches import Encoder
from starter.vision_model import TOKENS, make_processor, make_tokenizer


def test_no_training_scene_has_a_pair_that_is_held_out() -> None:
    talks = Conversations(random.Random("train"))
    scenes = [scene for _ in range(400) for scene in talks.draw().scenes if scene]
    assert max(len(scene.things) for scene in scenes) == FEW[0][1]
    scenes += [draw_scene(random.Random(f"drawn {number}")) for number in range(400)]
    assert not {(one.shape, one.colour) for scene in scenes for one in scene.things} & HELD_OUT
    assert {len(scene.things) for scene in scenes} == set(range(MOST + 1))
    assert all(len({one.cell for one in scene.things}) == len(scene.things) for scene in scenes)
    kept = [vision_accuracy.scene(number)[0] for number in range(4, 100, 5)]
    assert all({(one.shape, one.colour) for one in scene.things} & HELD_OUT for scene in kept)


def test_both_languages_ask_the_same_kinds() -> None:
    kinds = {lang: list(ways(lang)) for lang in LANGS}
    assert kinds["ko"] == kinds["en"]
    assert min(len(said) for lang in LANGS for said in ways(lang).values()) >= 5


def test_training_lays_a_conversation_out_as_the_processor_does() -> None:
    talks, source = Conversations(random.Random("layout"), easy_first=False), random.Random("layout")
    said = [text for _ in range(50) for turn in talks.draw().turns for text in (turn.question, turn.answer)]
    processor = make_processor(make_tokenizer(said, 600))
    encode = Encoder(processor.tokenizer)
    for talk in (talks.draw() for _ in range(20)):
        pictures = [paint(scene, source) if scene else paint_clutter(source) for scene in talk.scenes]
        text = processor.apply_chat_template(talk.messages())
        inputs = processor(text=[text], images=[pictures] if pictures else None)
        assert inputs["input_ids"][0] == encode(talk).ids
        assert inputs["input_ids"][0].count(processor.image_token_id) == TOKENS * len(pictures)


def test_a_word_that_names_something_is_the_same_piece_everywhere() -> None:
    talks = Conversations(random.Random("words"), easy_first=False)
    said = [text for _ in range(1500) for turn in talks.draw().turns for text in (turn.question, turn.answer)]
    tokenizer = make_tokenizer(said, 1280)
    for word, others in (("빨간", ("이 빨간 원은", "빨간색이 보여요.")), ("circle", ("Two circles?", "the circle"))):
        [piece] = tokenizer.encode(word, add_special_tokens=False)
        assert all(piece in tokenizer.encode(other, add_special_tokens=False) for other in others)
    for text in ("background", "three", "largest", "배경은", "위치가", "모양이에요"):
        assert len(tokenizer.encode(text, add_special_tokens=False)) == 1
    for text in [*said[:50], "start stop", " 두 칸", "", "ㅋㅋ <image", "빨간\n\n원"]:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_pictures_come_before_words_in_whatever_order_they_are_sent() -> None:
    processor = make_processor(make_tokenizer(["what is it?"], 300))
    image, text = {"type": "image"}, {"type": "text", "text": "what is it?"}
    orders = ([image, image, text], [image, text, image], [text, image, image])
    told = {processor.apply_chat_template([{"role": "user", "content": parts}]) for parts in orders}
    assert told == {"<|user|><image><image>what is it?<end_of_utterance>"}


@pytest.mark.parametrize("name", PICTURES)
def test_samples_are_those_that_the_script_draws(name: str) -> None:
    with Image.open(SAMPLES / f"{name}.png") as kept:
        assert kept.convert("RGB").tobytes() == sample(name).quantize(64).convert("RGB").tobytes()


def test_a_drawn_scene_is_the_same_from_the_same_seed() -> None:
    one, other = (paint(draw_scene(source), source).tobytes() for source in (random.Random(3), random.Random(3)))
    assert one == other


@pytest.mark.parametrize("lang", LANGS)
def test_answers_are_right_for_a_scene_laid_by_hand(lang: str) -> None:
    scene = Scene(
        (
            Thing("circle", "red", 0.2, 0.2, 0.1, (255, 0, 0), 0, False),
            Thing("star", "red", 0.8, 0.2, 0.2, (255, 0, 0), 0, False),
            Thing("square", "blue", 0.5, 0.8, 0.14, (0, 0, 255), 0, False),
        ),
        "white",
        (255, 255, 255),
    )
    questions = Questions(random.Random(1))
    for kind, answers in EXPECTED.items():
        asked = questions.ask(kind, scene, lang)
        assert asked is not None
        assert asked.answer == answers[lang], kind


@pytest.mark.parametrize(
    ("lang", "so", "not_so"),
    [
        ("en", "The star is blue, as you say.", r"The star is blue, not (?!blue)\w+\."),
        ("ko", "별은 파란색이에요. 맞아요.", r"별은 파란색이에요. (?!파란색)\w+[은는] 아니에요."),
    ],
)
def test_of_a_claim_it_says_what_is_so(lang: str, so: str, not_so: str) -> None:
    scene = Scene((Thing("star", "blue", 0.8, 0.2, 0.17, (0, 0, 255), 0, False),), "white", (255, 255, 255))
    questions = Questions(random.Random(1))
    answers = {asked.answer for _ in range(60) if (asked := questions.ask("check", scene, lang))}
    assert so in answers
    assert len(answers) > 5
    assert all(re.fullmatch(not_so, answer) for answer in answers - {so})


EXPECTED = {
    "describe": {
        "en": "There are three shapes on a white background: a red circle at the top left, a red star at the top right "
        "and a blue square at the bottom.",
        "ko": "흰색 배경에 도형 세 개: 왼쪽 위에 빨간 원, 오른쪽 위에 빨간 별, 아래쪽 가운데에 파란 사각형이 있어요.",
    },
    "count": {"en": "There are three shapes.", "ko": "도형이 세 개 있어요."},
    "largest": {"en": "The largest shape is the red star.", "ko": "가장 큰 도형은 빨간 별이에요."},
    "smallest": {"en": "The smallest shape is the red circle.", "ko": "가장 작은 도형은 빨간 원이에요."},
    "background": {"en": "The background is white.", "ko": "배경은 흰색이에요."},
    "colours": {"en": "I see red and blue.", "ko": "빨간색, 파란색이 보여요."},
    "shapes": {
        "en": "I see one circle, one square and one star.",
        "ko": "원 한 개, 사각형 한 개, 별 한 개가 보여요.",
    },
}
