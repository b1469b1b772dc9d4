"""The benchmark of masks, in a size that takes no time."""

from __future__ import annotations

from benchmarks.masks import PEER, figures


def test_both_ways_draw_the_same_masks_and_are_timed() -> None:
    rows = figures(components=(3, 300), images=40)
    assert [row.name for row in rows] == [
        "masks of 40 images, one each, 3 components",
        "masks of 40 images, one each, 300 components",
    ]
    for row in rows:
        assert row.peer is not None
        assert row.ours > 0
        assert row.ratio == row.peer / row.ours
        assert row.peer_name == PEER
