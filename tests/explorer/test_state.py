"""The state of the explorer: one frozen object, as short text and as a question."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdpanalytics.errors import InputError
from cdpanalytics.explorer.state import VIEWS, State

names = st.lists(st.text(min_size=1, max_size=8), max_size=3).map(tuple)
states = st.builds(
    State, policy=names, vm=names, server=names, period=st.text(min_size=1, max_size=12), tz=st.text(max_size=8),
    tag=st.lists(st.tuples(st.text(min_size=1, max_size=5), names.filter(len)), max_size=2,
                 unique_by=lambda pair: pair[0]).map(tuple),
    target=st.text(max_size=6), exclude=st.booleans(), view=st.sampled_from(VIEWS), picked=names,
    beside=st.text(max_size=20),
)  # fmt: skip


@given(states)
def test_a_state_is_what_its_text_says(state: State) -> None:
    assert State.parse(str(state)) == state
    assert State.parse(str(state)).text() == str(state)


@given(states, states)
def test_the_text_of_a_difference_leads_from_one_state_to_the_other(a: State, b: State) -> None:
    tagged = {name for name, _ in a.tag} - {name for name, _ in b.tag}
    if not tagged:  # a tag that is taken off has no words in a text
        assert State.parse(b.text(a), a) == b


def test_the_default_needs_no_words() -> None:
    assert str(State()) == ""
    assert State.parse("") == State()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "explore has no 'colour'; use period, policy, vm"),
        ("view=Pie", "view='Pie' is not known; use Heat map, Timeline"),
        ("order=size", "order='size' is not known; use breached, incident"),
        ("exclude=perhaps", "exclude='perhaps' is neither yes nor no"),
        ("Gold", "'Gold' is not the state of an explorer"),
    ],
)
def test_text_that_is_not_a_state_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        State.parse(text)


def test_a_state_is_a_question() -> None:
    state = State().but(
        period="2026-10", policy="Gold", vm=["a", "b"], tag={"site": "X"}, exclude=False
    )
    assert state.question == {
        "period": "2026-10", "policy": "Gold", "vm": ("a", "b"), "tag": {"site": "X"}, "exclude": False,
    }  # fmt: skip
    assert State().but(period="all").question == {}
