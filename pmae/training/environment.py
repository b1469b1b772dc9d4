"""What a run's bits depend on beside its spec and its data, and what is chosen by the hardware."""

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
    """What decides the bits beside the spec and the data.

    Args:
        spec: with its precision chosen.
        device: that trains.
        init_digest: SHA-256 of the weights that training began with, if not with its own.
    """
    facts = machine(device, spec.threads) | {
        "devices": spec.devices,
        "precision": spec.precision,
        "compile": spec.compile,
        "optimizer_implementation": spec.optimizer.implementation,
    }
    return facts if init_digest is None else facts | {"init_from_sha256": init_digest}


Precision = Literal["fp32", "bf16"]
"""What a model's arithmetic is done in, once it is chosen."""


def machine(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions and hardware, which decide the bits of whatever is computed.

    Args:
        device: that computes.
        threads: of the CPU.
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
    """The spec with ``auto`` or ``auto_gpu`` replaced by what ``device`` computes in."""
    if spec.precision not in ("auto", "auto_gpu"):
        return spec
    asked = spec.precision == "auto" or device.type == "cuda"
    chosen = "bf16" if asked and computes_bf16(device) else "fp32"
    return spec.model_copy(update={"precision": chosen})


def evaluation_precision(asked: Precision | None, trained: str, device: torch.device) -> Precision:
    """Choose what the encoder of a checkpoint computes in when it is evaluated later.

    Args:
        asked: by the evaluation; None: what the pretraining computed in, where ``device`` has it in
            hardware, and fp32 elsewhere.
        trained: the precision that the checkpoint records.
        device: that evaluates.
    """
    if asked is not None:
        return asked
    return "bf16" if trained == "bf16" and computes_bf16(device) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Compute a model's matrix products in bf16 if ``precision`` says so; weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def allow_tf32(device: torch.device) -> None:
    """Let a GPU take TF32 for fp32 products; what must be exact says so (pmae.basis.exact)."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def computes_bf16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bf16 matrices in hardware rather than emulating it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def emulation_warning(precision: str, device: torch.device) -> str | None:
    """Warn a researcher whose precision the hardware only emulates."""
    if precision != "bf16" or computes_bf16(device):
        return None
    return (
        f"precision: this {device.type} emulates bf16, which is many times slower than fp32; "
        "auto takes bf16 only where a new run's hardware computes in it"
    )


def require_compiler(spec: ExperimentSpec, device: torch.device) -> None:
    """Refuse to compile for a CPU without a C++ compiler, which torch.compile needs there.

    Raises:
        TrainingError: there is none.
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
