"""Retention of kept checkpoints: the last ones, the best, milestones, and marked ones stay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pmae.errors import CheckpointError
from pmae.metrics import METRICS
from pmae.runs.checkpoints import Manifest, parse_manifest
from pmae.runs.layout import LeaseDir, RunDir
from pmae.runs.removal import remove_unless_marked
from pmae.spec import CheckpointSpec


def superfluous(
    kept: Sequence[Manifest], spec: CheckpointSpec, milestone_steps: frozenset[int]
) -> list[Manifest]:
    """Return the checkpoints that ``spec`` does not retain, oldest first, ignoring marks.

    Args:
        kept: the run's kept checkpoints, in any order.
        spec: retention settings; ``keep_last=None`` retains all.
        milestone_steps: steps whose checkpoints are retained.
    """
    if spec.keep_last is None:
        return []
    by_step = sorted(kept, key=lambda manifest: manifest.step)
    staying = {manifest.step for manifest in by_step[-spec.keep_last :]} | milestone_steps
    measured = [m for m in by_step if spec.keep_best is not None and spec.keep_best in m.metrics]
    if spec.keep_best is not None and measured:
        metric = METRICS[spec.keep_best]
        # On a tie, the later one.
        best = max(measured, key=lambda m: (metric.goodness(m.metrics[metric.name]), m.step))
        staying.add(best.step)
    return [manifest for manifest in by_step if manifest.step not in staying]


def retain(lease: LeaseDir, spec: CheckpointSpec, milestone_steps: frozenset[int]) -> list[str]:
    """Remove the superfluous checkpoints that this lease and older ones of the run wrote.

    Returns:
        The names of the removed checkpoints, sorted.
    """
    if spec.keep_last is None:
        return []
    found: list[tuple[Path, Manifest]] = []
    for older in RunDir(lease.path.parent).leases():
        if older.number > lease.number or not older.checkpoints.is_dir():
            continue
        for folder in older.checkpoints.iterdir():
            if not folder.name.startswith("."):
                try:
                    found.append((folder, parse_manifest(folder)))
                except CheckpointError:
                    continue  # a broken one is skipped, with a warning, when the run resumes
    going = {m.step for m in superfluous([m for _, m in found], spec, milestone_steps)}
    removed = [(m.name, remove_unless_marked(folder)) for folder, m in found if m.step in going]
    staying = {name for name, is_gone in removed if not is_gone}
    return sorted({name for name, _ in removed} - staying)
