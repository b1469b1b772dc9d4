"""The experiment spec: everything that decides what a run computes.

A researcher writes a spec with as little as a method and a data set; :func:`resolve` writes every
default out. What is stored and trained is always a resolved spec, so that a run can be repeated
exactly. Defaults are those of the paper (arXiv 2502.06314, appendix) unless a field says otherwise.
"""

from __future__ import annotations

from pmae.spec.base import SpecModel
from pmae.spec.basis import BasisSpec
from pmae.spec.checkpoint import CheckpointSpec
from pmae.spec.dataset import DatasetSpec
from pmae.spec.evaluation import (
    EvaluationSpec,
    FinetuneSpec,
    KnnSpec,
    LinearProbeSpec,
    MlpProbeSpec,
)
from pmae.spec.experiment import ExperimentSpec, load_spec, resolve
from pmae.spec.masking import MaskingSpec
from pmae.spec.model import MODEL_PRESETS, ModelSpec
from pmae.spec.optimization import AugmentationSpec, OptimizerSpec, ScheduleSpec

__all__ = [
    "MODEL_PRESETS",
    "AugmentationSpec",
    "BasisSpec",
    "CheckpointSpec",
    "DatasetSpec",
    "EvaluationSpec",
    "ExperimentSpec",
    "FinetuneSpec",
    "KnnSpec",
    "LinearProbeSpec",
    "MaskingSpec",
    "MlpProbeSpec",
    "ModelSpec",
    "OptimizerSpec",
    "ScheduleSpec",
    "SpecModel",
    "load_spec",
    "resolve",
]
