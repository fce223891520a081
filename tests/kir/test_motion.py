"""Classes of windows: together they meet what the definition of a window says, once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from funcdl.kir.ir import Slide
from funcdl.kir.motion import find_motion

Met = dict[int, set[tuple[int, int]]]


def defined(slide: Slide, windows: int, size: int, places: int) -> Met:
    """For each window the pairs of a place and the element that it meets there."""
    found: Met = {}
    for i in range(windows):
        found[i] = set()
        for k in range(places):
            element, hole = divmod(i * slide.stride + k * slide.dilation - slide.low, slide.spread)
            if not hole and 0 <= element < size:
                found[i].add((k, element))
    return found


@given(
    st.builds(
        Slide,
        *map(st.just, "ipk"),
        stride=st.integers(1, 4),
        low=st.integers(-3, 9),
        spread=st.integers(1, 4),
        dilation=st.integers(1, 3),
    ),
    st.integers(1, 14),
    st.integers(1, 9),
    st.integers(1, 6),
    st.booleans(),
)
def test_classes_meet_what_windows_meet(
    slide: Slide, windows: int, size: int, places: int, clipped: bool
) -> None:
    motion = find_motion(slide, windows, size, places, clipped)
    found: Met = {}
    for members in motion.classes:
        for number in range(members.count):
            window = members.first + number * motion.period
            assert window not in found
            found[window] = {
                (
                    members.place + tap * motion.place_step,
                    members.element + number * motion.step + tap * motion.element_step,
                )
                for tap in range(members.taps)
            }
    inside = {window: {t for t in taps if 0 <= t[1] < size} for window, taps in found.items()}
    assert inside == defined(slide, windows, size, places)
    if motion.inside:
        assert inside == found
    elements = [element for taps in found.values() for _, element in taps]
    if not clipped and elements:
        assert min(elements) >= motion.low
        assert max(elements) < motion.low + motion.elements(windows)


def test_only_windows_near_the_ends_are_looked_at() -> None:
    slide = Slide("i", "p", "k", low=4)
    motion = find_motion(slide, 10**7, 10**7, 9, clipped=True)
    assert [members.count for members in motion.classes] == [1] * 4 + [10**7 - 8] + [1] * 4
