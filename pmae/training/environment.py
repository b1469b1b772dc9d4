"""Environment of a run (versions, hardware, precision), on which its exact result depends."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch

from pmae import __version__
from pmae.errors import TrainingError
from pmae.spec import ExperimentSpec


def environment(
    spec: ExperimentSpec, device: torch.device, init_digest: str | None = None
) -> dict[str, Any]:
    """Describe everything beside spec and data on which the exact result depends.

    Args:
        spec: spec with a resolved precision.
        device: device that trains.
        init_digest: SHA-256 of the initial weights of another run, if any.
    """
    facts = machine(device, spec.threads) | {
        "devices": spec.devices,
        "precision": spec.precision,
        "compile": spec.compile,
        "optimizer_implementation": spec.optimizer.implementation,
    }
    return facts if init_digest is None else facts | {"init_from_sha256": init_digest}


Precision = Literal["fp32", "bf16"]
"""Resolved precision of a model's arithmetic."""


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Describe versions and hardware, on which the exact result of computations depends.

    Args:
        device: device that computes.
        threads: number of CPU threads.
    """
    name = torch.cuda.get_device_name() if device.type == "cuda" else _cpu_name()
    return {
        "pmae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "timm": timm.__version__,
        "numpy": np.__version__,
        "device": device.type,
        "device_name": name,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
    }


def choose_precision(spec: ExperimentSpec, device: torch.device) -> ExperimentSpec:
    """Replace the precision ``auto`` or ``auto_gpu`` by the one that ``device`` computes in."""
    if spec.precision not in ("auto", "auto_gpu"):
        return spec
    asked = spec.precision == "auto" or device.type == "cuda"
    chosen = "bf16" if asked and computes_bf16(device) else "fp32"
    return spec.model_copy(update={"precision": chosen})


def evaluation_precision(asked: Precision | None, trained: str, device: torch.device) -> Precision:
    """Choose the precision in which a checkpoint's encoder is evaluated.

    Args:
        asked: precision in the evaluation's spec; None: that of the pretraining if ``device`` has
            it in hardware, else fp32.
        trained: precision in the checkpoint's configuration.
        device: device that evaluates.
    """
    if asked is not None:
        return asked
    return "bf16" if trained == "bf16" and computes_bf16(device) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Return a context for matrix products in bf16 if ``precision`` is bf16; weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def allow_tf32(device: torch.device) -> None:
    """Allow TF32 for fp32 products on a GPU; exact computations opt out (pmae.basis.exact)."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def computes_bf16(device: torch.device) -> bool:
    """Return True if ``device`` multiplies bf16 matrices in hardware, without emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def emulation_warning(precision: str, device: torch.device) -> str | None:
    """Return a warning if the hardware only emulates ``precision``, else None."""
    if precision != "bf16" or computes_bf16(device):
        return None
    return (
        f"precision: this {device.type} emulates bf16, which is many times slower than fp32; "
        "auto takes bf16 only where a new run's hardware computes in it"
    )


def require_compiler(spec: ExperimentSpec, device: torch.device) -> None:
    """Check that there is a C++ compiler, which torch.compile needs on a CPU.

    Raises:
        TrainingError: the spec asks to compile, and there is none.
    """
    compiler = os.environ.get("CXX", "g++")
    if spec.compile and device.type == "cpu" and shutil.which(compiler) is None:
        raise TrainingError(
            f"compile: torch.compile needs a C++ compiler on a CPU, and there is no {compiler}; "
            "install one (CXX names another), or submit the run without compile"
        )


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
