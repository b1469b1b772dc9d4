"""Evaluate a checkpoint by itself: ``python -m pmae.evaluate RUN_OR_CHECKPOINT``.

    python -m pmae.evaluate runs/mine --protocol linear --layers all --num-seeds 3
    python -m pmae.evaluate runs/mine --protocol knn --dataset fashion_mnist
    python -m pmae.evaluate runs/mine --attention maps.png --block 5 --head 0

It needs no service. The result is printed, and written as JSON to the checkpoint's folder
(``evaluations/``) or to ``--output``. Exit status 1: it failed, for the reason printed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from pmae.cli.output import print_table
from pmae.errors import CheckpointError, PmaeError, SpecError
from pmae.evaluate.attention import attention_maps, attention_png
from pmae.evaluate.measure import Evaluations
from pmae.evaluate.results import EvaluationResult, Source
from pmae.evaluate.subject import Subject
from pmae.runs.events import dump_json
from pmae.runs.references import find_checkpoint
from pmae.runtime.files import write_file
from pmae.settings import StorageSettings
from pmae.spec import EvaluationSpec
from pmae.spec.messages import fault
from pmae.spec.parts.evaluation import resolve_evaluation
from pmae.training.environment import allow_tf32

RESULTS_FOLDER = "evaluations"
_SPEC: TypeAdapter[EvaluationSpec] = TypeAdapter(EvaluationSpec)
_SPEC_OPTIONS = (
    "protocol", "recipe", "features", "layers", "standardize", "epochs", "base_lr", "batch_size",
    "warmup_epochs", "num_seeds", "k", "baselines",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        _run(options, Console())
    except PmaeError as error:
        sys.stderr.write(f"pmae.evaluate: {error}\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pmae.evaluate", description="Evaluate a checkpoint without the service."
    )
    parser.add_argument(
        "source",
        help="a run or a checkpoint: its folder, or its id in the service on this machine",
    )
    parser.add_argument("--protocol", help="linear (default), mlp, knn or finetune")
    parser.add_argument("--recipe", help="cached or paper (probes)")
    parser.add_argument("--features", help="cls or mean")
    parser.add_argument("--layers", help="last or all (probes and k-NN)")
    parser.add_argument("--standardize", action=argparse.BooleanOptionalAction)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--base-lr", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--warmup-epochs", type=float)
    parser.add_argument("--num-seeds", type=int)
    parser.add_argument("--k", type=int, nargs="+", help="numbers of neighbours to try (k-NN)")
    parser.add_argument("--dataset", help="transfer: train and measure on this data set")
    parser.add_argument("--max-train-images", type=int, help="of --dataset")
    parser.add_argument(
        "--baselines", nargs="+", help="raw_pixels, untrained_encoder: also evaluate these"
    )
    parser.add_argument(
        "--output", type=Path, help="JSON file; default: in the checkpoint's folder"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="of the encoder; default: the training's, or fp32 where the hardware has no bf16",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; affect the last bits")
    parser.add_argument("--attention", type=Path, help="write attention maps as a PNG instead")
    parser.add_argument("--block", type=int, default=-1, help="of the maps; default: the last")
    parser.add_argument("--head", type=int, help="of the maps; default: the mean of all")
    parser.add_argument("--images", type=int, default=8, help="number of test images with maps")
    return parser


def _run(options: argparse.Namespace, console: Console) -> None:
    if options.threads < 1:
        raise SpecError(
            f"threads: {options.threads} is not a number of threads; expected 1 or more"
        )
    torch.set_num_threads(options.threads)
    # CUDA reads this when it initialises; without it cuBLAS is not deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    settings = StorageSettings()
    folder = find_checkpoint(options.source, settings.runs_dir)
    evaluation = None if options.attention else evaluation_of(options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allow_tf32(device)
    subject = Subject.load(folder, settings, device, options.precision)
    if evaluation is None:
        _write_attention(subject, options)
        console.print(f"{options.attention}", highlight=False, soft_wrap=True)
        return
    evaluation = resolve_evaluation(evaluation, subject.spec.dataset)
    evaluations = Evaluations(subject, settings, tick=lambda: None)
    sources: tuple[Source, ...] = ("encoder", *evaluation.baselines)
    try:
        results = [
            evaluations.measure(evaluation, source, f"{evaluation.protocol}/{source}")
            for source in sources
        ]
    finally:
        evaluations.close()
        subject.target.data.close()
    path = options.output or _result_path(folder, evaluation)
    _write(path, folder, results)
    _show(results)
    console.print(f"{path}", highlight=False, soft_wrap=True)


def evaluation_of(options: argparse.Namespace) -> EvaluationSpec:
    """Make the evaluation that the options describe, unresolved.

    Raises:
        SpecError: an option is invalid, or not one of the protocol.
    """
    fields: dict[str, Any] = {
        name: getattr(options, name) for name in _SPEC_OPTIONS if getattr(options, name) is not None
    }
    if options.dataset is not None:
        fields["dataset"] = {"name": options.dataset, "max_train_images": options.max_train_images}
    elif options.max_train_images is not None:
        raise SpecError("max_train_images: it limits --dataset, which is missing; give it too")
    try:
        return _SPEC.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"][1:])) or "protocol"
        protocol = fields.get("protocol", "linear")
        text = (
            f"the protocol {protocol} has no such option"
            if first["type"] == "extra_forbidden"
            else fault(first)
        )
        raise SpecError(f"{place}: {text}") from error


def _result_path(folder: Path, evaluation: EvaluationSpec) -> Path:
    digest = hashlib.sha256(dump_json(evaluation.model_dump(mode="json")).encode()).hexdigest()
    return folder / RESULTS_FOLDER / f"{evaluation.protocol}-{digest[:8]}.json"


def _write(path: Path, folder: Path, results: list[EvaluationResult]) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} was removed meanwhile; save the result with --output")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "checkpoint": str(folder),
        "results": [result.model_dump(mode="json") for result in results],
    }
    write_file(path, (dump_json(content) + "\n").encode())


def _write_attention(subject: Subject, options: argparse.Namespace) -> None:
    test = subject.target.data.test
    count = max(1, min(options.images, len(test)))
    images = test.take(torch.arange(count)).images
    standardized = subject.target.statistics.standardize(images / 255).to(subject.device)
    maps = attention_maps(subject.encoder, standardized, options.block)
    write_file(options.attention, attention_png(images / 255, maps, options.head))


def _show(results: list[EvaluationResult]) -> None:
    first = results[0]
    title = f"{first.protocol} on {first.dataset} after epoch {first.epoch:g}, test split"
    columns = ("of", "layer", "top-1", "sd", "top-5", "macro F1", "balanced", "val top-1", "chosen")
    print_table(
        columns,
        [row for result in results for row in _rows(result)],
        title=title,
        flexible=("of", "chosen"),
    )


def _rows(result: EvaluationResult) -> Iterator[tuple[str, ...]]:
    """A row for each measured layer; only the last one has all figures."""
    source = result.source.replace("_", " ")
    for layer in result.by_layer[:-1]:
        of_layer = (_percent(layer.top1), _percent(layer.top1_std), "", "", "")
        yield source, str(layer.layer), *of_layer, _percent(layer.val_top1), _k(layer.k)
    figures = (
        result.top1,
        result.top1_std,
        result.top5,
        result.macro_f1,
        result.balanced_accuracy,
        result.val_top1,
    )
    chosen = ", ".join(f"{name} {value}" for name, value in result.chosen.items())
    yield source, "last", *map(_percent, figures), chosen


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _k(value: int | None) -> str:
    return "" if value is None else f"k {value}"


if __name__ == "__main__":
    sys.exit(main())
