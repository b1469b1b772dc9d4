"""Specs: everything that determines what a run computes.

A spec may name as little as a data set; :func:`resolve` fills in every default. Runs are stored and
trained with resolved specs, so that they can be repeated exactly. A run that evaluates a checkpoint
of another run has an :class:`EvaluateSpec`. Defaults are those of the paper (arXiv 2502.06314,
appendix) unless a field says otherwise.
"""

from __future__ import annotations

from pmae.spec.base import SpecModel
from pmae.spec.evaluate import EvaluateSpec, EvaluationRequest, resolve_evaluate
from pmae.spec.experiment import ExperimentSpec, resolve
from pmae.spec.methods import MethodName
from pmae.spec.parts.basis import BasisSpec
from pmae.spec.parts.checkpoint import CheckpointSpec
from pmae.spec.parts.dataset import DatasetSpec
from pmae.spec.parts.evaluation import (
    PROTOCOL_NAMES,
    SHORT_PROTOCOL_NAMES,
    EvaluationSpec,
    FinetuneSpec,
    KnnSpec,
    LinearProbeSpec,
    MlpProbeSpec,
)
from pmae.spec.parts.loss import LossSpec
from pmae.spec.parts.masking import MaskingSpec
from pmae.spec.parts.model import MODEL_PRESETS, ModelSpec
from pmae.spec.parts.monitor import MonitorSpec
from pmae.spec.parts.optimization import AugmentationSpec, OptimizerSpec, ScheduleSpec
from pmae.spec.run_spec import RUN_SPEC, RunSpec

__all__ = [
    "MODEL_PRESETS",
    "PROTOCOL_NAMES",
    "RUN_SPEC",
    "SHORT_PROTOCOL_NAMES",
    "AugmentationSpec",
    "BasisSpec",
    "CheckpointSpec",
    "DatasetSpec",
    "EvaluateSpec",
    "EvaluationRequest",
    "EvaluationSpec",
    "ExperimentSpec",
    "FinetuneSpec",
    "KnnSpec",
    "LinearProbeSpec",
    "LossSpec",
    "MaskingSpec",
    "MethodName",
    "MlpProbeSpec",
    "ModelSpec",
    "MonitorSpec",
    "OptimizerSpec",
    "RunSpec",
    "ScheduleSpec",
    "SpecModel",
    "resolve",
    "resolve_evaluate",
]
