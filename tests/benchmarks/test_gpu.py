"""The GPU's benchmark, in a size that a CPU computes in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.mae_peers import TRANSFORMERS


def test_it_measures_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "figures.json"
    try:
        gpu.main(["--toy", "--out", str(out)])
    finally:
        torch.use_deterministic_algorithms(False)
    figures = {row["name"]: row for row in json.loads(out.read_text())}
    printed = capsys.readouterr().out
    assert all(f"| {name} |" in printed for name in figures)
    steps = [row for row in json.loads(out.read_text()) if row["unit"] == "images/s"]
    assert {row["name"].split(" ")[0] for row in steps} == {"PMAE", "MAE"}
    assert all(row["ours"] > 0 for row in steps)
    assert TRANSFORMERS in {row["peer_name"] for row in steps}
    shares = [row["ours"] for name, row in figures.items() if "share of the peak" in name]
    assert len(shares) == 2
    assert all(0 < share < 1 for share in shares)
    copies = [row["ours"] for name, row in figures.items() if "copies to the device" in name]
    assert all(0 < count <= 6 for count in copies)


def test_without_a_gpu_it_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "there is no GPU; --toy" in capsys.readouterr().err
