"""Chat templates: those of the Hub give what transformers gives, and none can hold the worker up or look around."""

from __future__ import annotations

import threading

import pytest
import tokenizers
import transformers
from tokenizers import models

from core.errors import TemplateFailed
from core.types import Message
from core.worker.generation import chat_template
from core.worker.generation.chat_template import ChatTemplate

CHATML = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or message.role == 'assistant' %}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
LLAMA = """\
{{- bos_token }}
{%- if tools is not none %}{{- raise_exception("no tools here") }}{%- endif %}
{%- set ns = namespace(system=false) %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
    {%- set ns.system = true %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- generation %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endgeneration %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
MISTRAL = """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- macro wrapped(text) %}[INST] {{ text }} [/INST]{%- endmacro %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Roles must alternate user/assistant') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- wrapped(system_message + "\\n\\n" + message["content"]) }}
        {%- else %}
            {{- wrapped(message["content"]) }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " ~ message["content"]|replace("\\t", " ") ~ eos_token }}
    {%- else %}{% continue %}{%- endif %}
{%- endfor %}
"""
CHAT: tuple[Message, ...] = (
    {"role": "system", "content": " 짧게 답한다. "},
    {"role": "user", "content": "안녕? <b>{{ 1 }}</b>"},
    {"role": "assistant", "content": "반가워\t요 👩‍👩‍👧"},
    {"role": "user", "content": "What is\n\nthis?"},
)


def template(source: str | None) -> ChatTemplate:
    return ChatTemplate(source, bos="<s>", eos="</s>", name="org/model")


@pytest.fixture(scope="module")
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    words = tokenizers.Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>"))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize("source", [CHATML, LLAMA, MISTRAL], ids=["chatml", "llama", "mistral"])
@pytest.mark.parametrize("chat", [CHAT, CHAT[1:], CHAT[1:2]])
def test_the_text_is_that_of_transformers(tokenizer, source: str, chat: tuple[Message, ...]) -> None:
    expected = tokenizer.apply_chat_template(
        list(chat), chat_template=source, tokenize=False, add_generation_prompt=True
    )
    assert template(source).render(chat) == expected


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages|tojson }}{{ messages[0]|tojson(indent=2) }}",
        "{{ [1, 'a', none]|join('-') ~ 1.5 ~ 'b' }}{{ messages[0].content.strip().split(' ')[0] }}",
        "{% set x %}a{{ 1 }}{% endset %}{{ x }}{{ x|upper }}{{ absent }}{{ absent is defined }}",
        "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}{{ range(3)|list }}{{ 2 ** 10 % 7 }}",
        "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
        "{{ messages|map(attribute='content')|join }}{{ messages|selectattr('role', 'eq', 'user')|list|length }}",
    ],
)
def test_what_templates_use_works_as_in_transformers(tokenizer, source: str) -> None:
    expected = tokenizer.apply_chat_template(list(CHAT), chat_template=source, tokenize=False)
    assert template(source).render(CHAT) == expected


def test_no_template_gives_a_plain_one() -> None:
    plain = template(None)
    assert not plain.has_template
    assert template(CHATML).has_template
    assert plain.render(CHAT[:2]) == "<s>System:  짧게 답한다. \nUser: 안녕? <b>{{ 1 }}</b>\nAssistant:"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "was not done after"),
        ("{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}", "calls itself"),
        ("{% for a in range(99999) %}{{ 'x' * 4000 }}{% endfor %}", "writes more than"),
    ],
)
def test_loops_and_floods_are_stopped_and_named(source: str, why: str, monkeypatch) -> None:
    monkeypatch.setattr(chat_template, "DEADLINE_S", 0.3 if "was not" in why else 60)
    with pytest.raises(TemplateFailed, match=f"org/model.*{why}"):
        template(source).render(CHAT)
    assert not [each for each in threading.enumerate() if each.name == "chat-template" and "was not" in why]


DOUBLING = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x }}"


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 400000000 }}",
        "{{ 400000000 * 'a' }}",
        "{{ [0] * 400000000 }}",
        "{{ 9 ** 99999 }}",
        DOUBLING % ("'abcdefgh'", "ns.x + ns.x"),
        DOUBLING % ("'abcdefgh'", "ns.x ~ ns.x"),
        DOUBLING % ("'abcdefgh'", "[ns.x, ns.x]|join"),
        DOUBLING % ("'abcdefgh'", "ns.x|replace('a', ns.x)"),
        DOUBLING % ("'abcdefgh'", "ns.x.replace('a', ns.x)"),
        DOUBLING % ("'abcdefgh'", "ns.x.join([ns.x, ns.x])"),
        DOUBLING % ("[1]", "[ns.x, ns.x]"),
        DOUBLING % ("[1]", "ns.x + ns.x"),
        DOUBLING % ("3", "ns.x * ns.x"),
        DOUBLING.replace("{{ ns.x }}", "{{ ns.x|tojson }}") % ("[1]", "[ns.x, ns.x]"),
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
        "{% set ns.x = y %}{% endfor %}",
        "{{ 'a'|center(400000000) }}",
        "{{ 'a'.ljust(400000000) }}",
        "{{ [1]|batch(400000000, 'a')|list }}",
        "{{ range(400000000) }}",
        "{{ '%400000000d' % 1 }}",
        "{{ '{:400000000}'.format(1) }}",
        "{{ (1).to_bytes(400000000, 'big') }}",
        "{{ 'a'.translate({97: 'b'}) }}",
        "x" * 1_000_001,
    ],
)
def test_what_would_fill_the_memory_is_refused(source: str, monkeypatch) -> None:
    monkeypatch.setattr(chat_template, "DEADLINE_S", 60)
    with pytest.raises(TemplateFailed, match="org/model") as caught:
        template(source).render(CHAT)
    assert "MemoryError" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ cycler.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ self._TemplateReference__context.eval_ctx.environment.filters }}",
        "{% include 'x' %}",
        "{% import 'os' as os %}",
        "{{ raise_exception('Only short chats!') }}",
        "{{ absent.attribute }}",
        "{% for %}",
        "{{ 1 / 0 }}",
        "{{ '" + "(" * 3000,
        "{{ lipsum(99999999) }}",
    ],
)
def test_what_goes_wrong_is_told_as_the_templates_fault(source: str) -> None:
    with pytest.raises(TemplateFailed, match="The chat template of org/model could not write this chat"):
        template(source).render(CHAT)


def test_a_refusal_of_the_templates_own_is_passed_on() -> None:
    with pytest.raises(TemplateFailed, match="Roles must alternate user/assistant"):
        template(MISTRAL).render((CHAT[1], CHAT[1]))


def test_ten_thousand_long_messages_are_rendered() -> None:
    chat: list[Message] = [{"role": "user", "content": "x" * 1000}] * 10_000
    assert len(template(CHATML).render(chat)) > 10_000_000
