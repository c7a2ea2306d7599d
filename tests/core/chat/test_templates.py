"""Prompt templates: the five that come along, and what users may and may not make."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.chat.templates import as_json, built_in, names_in, parse_template, substitute
from core.errors import InvalidRequest, RequestTooLarge

FIVE = {"default", "code_assistant", "therapy_assistant", "creative_writer", "sql_assistant"}


def test_five_come_along_in_two_languages():
    assert set(built_in()) == FIVE
    for name, languages in built_in().items():
        assert set(languages) == {"ko", "en"}
        korean, english = languages["ko"], languages["en"]
        assert set(korean.variables) == set(english.variables)
        assert set(names_in(korean.system + korean.user)) == {*korean.variables, "message"}, name
        assert set(names_in(english.system + english.user)) == {*english.variables, "message"}, name
        assert re.search("[가-힣]", korean.title + korean.description + korean.system)
        assert not re.search("[가-힣]", english.title + english.description + english.system)
        for template in languages.values():
            assert all(v.description and v.default for v in template.variables.values())
            system, user = template.render("안녕 {message} {name}", {})
            assert user == "안녕 {message} {name}"
            assert names_in(system) == []


def test_variables_are_put_in():
    system, user = built_in()["sql_assistant"]["ko"].render("지난달 매출은?", {"schema": "CREATE TABLE 매출 (원 int)"})
    assert "CREATE TABLE 매출 (원 int)" in system
    assert "PostgreSQL" in system
    assert user == "지난달 매출은?"


@pytest.mark.parametrize(
    "text",
    [
        "{{7*7}}", "{% for x in y %}", "{0.__class__}", "%(x)s", "${x}", "{x.__class__}", "{x!r}", "{x:>9}", "{}",
        "{ x }", "{{x}}", "{x[0]}", "{{cycler.__init__.__globals__}}", "\\{", "{", "}", "{\n}",
    ],
)  # fmt: skip
def test_b43_nothing_else_is_a_variable(text):
    template = parse_template({"name": "t", "system": text, "user": f"{text} {{message}}"})
    assert template.render(text, {}) == (text, f"{text} {text}")


@given(st.text(), st.text())
def test_values_are_put_in_as_they_are(one, two):
    assert substitute("<{a}|{b}|{a}>", {"a": one, "b": two}) == f"<{one}|{two}|{one}>"


def test_values_are_not_read_again():
    assert substitute("{a} {b}", {"a": "{b}", "b": r"\1 \g<0> {a}"}) == r"{b} \1 \g<0> {a}"


def test_missing_variables_are_named():
    template = parse_template({"name": "t", "system": "{role} {town}", "user": "{message} {tone}"})
    with pytest.raises(InvalidRequest, match="`role`, `tone`"):
        template.render("hello", {"town": "부산"})
    assert template.render("{town}", {"role": "a", "town": "b", "tone": "c"}) == ("a b", "{town} c")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"nobody": "x"}, "no variable `nobody`"),
        ({"message": "x"}, "no variable `message`"),
        ({"tone": 5}, "`variables.tone` must be a string"),
        ({"tone": None}, "`variables.tone` must be a string"),
        ({"tone": "\ud800"}, "half a surrogate"),
    ],
)
def test_wrong_variables(variables, words):
    template = parse_template({"name": "t", "user": "{message} {tone}"})
    with pytest.raises(InvalidRequest, match=words):
        template.render("hello", variables)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "`name`"),
        ({"name": "../x"}, "`name`"),
        ({"name": ""}, "`name`"),
        ({"name": "a\0b"}, "`name`"),
        ({"name": "a\n"}, "`name`"),
        ({"name": "x" * 65}, "`name`"),
        ({"name": "é"}, "`name`"),
        ({"name": "A"}, "`name`"),
        ({"name": 5}, "`name`"),
        ({"name": "t", "surprise": 1}, "no field `surprise`"),
        ({"name": "t", "user": "no place"}, "{message}"),
        ({"name": "t", "user": "{{message}}"}, "{message}"),
        ({"name": "t", "system": "{message}"}, "`system`"),
        ({"name": "t", "system": 5}, "`system`"),
        ({"name": "t", "system": "x" * 20_001}, "20,001"),
        ({"name": "t", "title": "x" * 201}, "`title`"),
        ({"name": "t", "title": "\ud800"}, "surrogate"),
        ({"name": "t", "variables": []}, "`variables`"),
        ({"name": "t", "variables": {"message": {}}}, "`message`"),
        ({"name": "t", "variables": {"0": {}}}, "variable's name"),
        ({"name": "t", "variables": {"a": "x"}}, "`variables.a`"),
        ({"name": "t", "variables": {"a": {"default": 5}}}, "`variables.a.default`"),
        ({"name": "t", "variables": {f"v{i}": {} for i in range(33)}}, "33"),
        ({"name": "t", "system": "".join(f"{{v{i}}}" for i in range(33))}, "33"),
    ],
)
def test_a_template_that_is_none(fields, words):
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        parse_template(fields)


def test_a_template_survives_its_json():
    template = parse_template(
        {"name": "t", "title": "제목", "user": "{message} {tone}", "variables": {"tone": {"default": ""}}}
    )
    assert parse_template(as_json(template)) == template
    assert template.render("hi", {}) == ("", "hi ")


def test_a_prompt_cannot_be_blown_up():
    template = parse_template({"name": "t", "user": "{message}" * 2000})
    with pytest.raises(RequestTooLarge, match="2,000,018,000 characters"):
        template.render("x" * 1_000_000, {})
