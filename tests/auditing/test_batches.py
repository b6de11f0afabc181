"""Where memory runs out a batch is halved, and the work goes on from where it was."""

from collections.abc import Sequence

import pytest

from efface.auditing.batches import at_once, fitting, in_batches

NO_ROOM = "CUDA out of memory. Tried to allocate 2.00 GiB"


@pytest.mark.parametrize("room", [1, 3, 7, 64])
def test_batches_are_halved_until_they_fit(room: int) -> None:
    tried: list[int] = []

    def work(rows: Sequence[int]) -> list[int]:
        tried.append(len(rows))
        if len(rows) > room:
            raise RuntimeError(NO_ROOM)
        return [row * row for row in rows]

    assert in_batches(range(20), 16, "squares", work) == [row * row for row in range(20)]
    fitted = [size for size in tried if size <= room]
    assert sum(fitted) == 20, "no row twice"
    assert tried == sorted(tried, reverse=True), "what did not fit is not tried again"
    assert at_once(range(20), work) == [row * row for row in range(20)]


def test_a_single_row_without_room_says_so() -> None:
    def work(rows: Sequence[int]) -> list[int]:
        raise RuntimeError(NO_ROOM)

    with pytest.raises(RuntimeError, match="out of memory"):
        in_batches([1, 2], 2, "nothing", work)
    with pytest.raises(RuntimeError, match="out of memory"):
        at_once([1, 2], work)
    with pytest.raises(RuntimeError, match="out of memory"):
        fitting(lambda size: work([size]), 4)


def test_other_errors_are_what_they_are() -> None:
    def work(rows: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        in_batches([1, 2, 3], 2, "nothing", work)


def test_what_cannot_be_cut_is_tried_with_smaller_batches() -> None:
    tried: list[int] = []

    def work(size: int) -> int:
        tried.append(size)
        if size > 10:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return size

    assert fitting(work, 64) == 8
    assert tried == [64, 32, 16, 8]
