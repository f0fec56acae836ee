import hypothesis
from hypothesis import strategies as st

from edge_exray.models.tflite import EdgeModel
from edge_exray.profiling import arena


def test_the_arena_of_a_chain_holds_two_neighbours_and_the_input(heavy_net):
    # x [1, 2000] float32 is 8000 bytes, and so is y; both in steps of 64 bytes.
    assert arena.arena_bytes(EdgeModel(heavy_net)) == 2 * 8000


def test_tensors_that_do_not_meet_share_their_place():
    assert arena._plan({0: (0, 1), 1: (2, 3), 2: (1, 2)}, {0: 640, 1: 640, 2: 64}) == 704


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    st.dictionaries(
        st.integers(0, 30), st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 5000)), max_size=12
    )
)
def test_the_plan_lies_between_the_most_that_is_alive_and_all_that_there_is(tensors):
    lives = {t: (min(a, b), max(a, b)) for t, (a, b, _) in tensors.items()}
    sizes = {t: 64 * size for t, (_, _, size) in tensors.items()}
    alive = [sum(sizes[t] for t, (a, b) in lives.items() if a <= step <= b) for step in range(10)]
    assert max(alive) <= arena._plan(lives, sizes) <= sum(sizes.values())
