"""Stop strings are found wherever the borders of tokens fall, and no part of one is ever let out."""

from hypothesis import given
from hypothesis import strategies as st

from core.worker.generation.stops import Stops

TEXTS = st.text(alphabet="ab\n", max_size=30)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3)


def streamed(pieces: list[str], stops: list[str]) -> str:
    finder, out = Stops(stops), ""
    for piece in pieces:
        text, stopped = finder.push(piece)
        out += text
        if stopped:
            return out
    return out + finder.flush()


@given(st.lists(TEXTS, max_size=8), STOPS)
def test_the_answer_ends_before_the_first_stop_however_it_is_cut(pieces, stops):
    whole = "".join(pieces)
    # of two stops, the one whose end is reached first ends the answer
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    one_by_one = streamed(list(whole), stops)
    if not ends:
        assert streamed(pieces, stops) == one_by_one == whole
    else:
        assert one_by_one == whole[: min(at for end, at in ends if end == min(ends)[0])]
        assert whole.startswith(streamed(pieces, stops))
        assert not any(stop in streamed(pieces, stops) for stop in stops)


def test_nothing_is_held_back_without_need():
    finder = Stops(["</s>"])
    assert finder.push("a <") == ("a ", False)
    assert finder.push("b") == ("<b", False)
    assert finder.push("</s") == ("", False)
    assert finder.push("> c") == ("", True)


def test_what_was_held_comes_out_at_the_end():
    finder = Stops(["STOP"])
    assert finder.push("xSTO") == ("x", False)
    assert finder.flush() == "STO"
