"""A memory bounded by what is in it."""

from hypothesis import given
from hypothesis import strategies as st

from src.rules.bounded import Bounded


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60), st.booleans()), max_size=60))
def test_it_never_holds_more_and_forgets_the_oldest_first(steps: list[tuple[int, int, bool]]) -> None:
    """What it gives back is what was put last; what it has forgotten is older than all it still has."""
    kept, model = Bounded[int, int](100), dict[int, tuple[int, int]]()
    for at, (key, size, is_put) in enumerate(steps):
        if is_put:
            kept.put(key, at, size)
            model.pop(key, None)
            model[key] = at, size
            while sum(each for _, each in model.values()) > 100:
                del model[next(iter(model))]
        else:
            assert kept.pop(key) == model.pop(key, (None, 0))[0]
    for key in range(10):
        assert kept.pop(key) == model.pop(key, (None, 0))[0]
