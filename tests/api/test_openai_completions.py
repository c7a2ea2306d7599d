"""Completions by the official `openai` client."""

import openai
import pytest


async def test_a_completion(ai):
    answer = await ai.completions.create(model="writer", prompt="count:100", echo=True)
    assert (answer.object, answer.model) == ("text_completion", "writer")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("count:100abcdefghijklmnop", "length")  # 16, as OpenAI documents
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (16, 26)


async def test_several_prompts_and_answers(ai):
    prompts = ["say:one", "say:둘", "count:3"]
    answer = await ai.completions.create(model="writer", prompt=prompts, n=2, max_tokens=50)
    assert [(each.index, each.text) for each in answer.choices] == list(
        enumerate(["one", "one", "둘", "둘", "abc", "abc"])
    )
    stream = await ai.completions.create(
        model="writer", prompt=prompts, n=2, max_tokens=50, stream=True, echo=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    texts, ends = [""] * 6, {}
    async for chunk in stream:
        if not chunk.choices:
            assert chunk.usage.completion_tokens == answer.usage.completion_tokens
            continue
        (choice,) = chunk.choices
        assert choice.index not in ends
        texts[choice.index] += choice.text
        if choice.finish_reason:
            ends[choice.index] = choice.finish_reason
    assert texts == [prompts[each.index // 2] + each.text for each in answer.choices]
    assert ends == dict.fromkeys(range(6), "stop")


async def test_a_prompt_of_token_ids(ai):
    ids = [*b"say:yes", 257]
    assert (await ai.completions.create(model="writer", prompt=ids)).choices[0].text == "yes"
    both = await ai.completions.create(model="writer", prompt=[ids, [*b"say:no", 257]])
    assert [choice.text for choice in both.choices] == ["yes", "no"]
    with pytest.raises(openai.BadRequestError, match="no token 99999"):
        await ai.completions.create(model="writer", prompt=[99999])


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_of_a_completion(ai, stream):
    asked = {"model": "writer", "prompt": "say:abc", "logprobs": 2}
    if stream:
        choices = [chunk.choices[0] async for chunk in await ai.completions.create(**asked, stream=True)]
        found = [choice.logprobs for choice in choices if choice.logprobs]
    else:
        found = [(await ai.completions.create(**asked)).choices[0].logprobs]
    assert [token for each in found for token in each.tokens] == ["a", "b", "c"]
    assert [offset for each in found for offset in each.text_offset] == [0, 1, 2]
    assert [logprob for each in found for logprob in each.token_logprobs] == pytest.approx([0, 0, 0], abs=1e-6)
    assert [len(top) for each in found for top in each.top_logprobs] == [2, 2, 2]
