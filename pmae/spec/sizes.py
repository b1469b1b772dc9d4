"""What a spec asks of its training images, held against how many there are. Imports no torch.

Checked when a run is submitted where the number is known, and else when its trainer has found the
images. A run that has a checkpoint is not checked again: it goes on as it began.
"""

from __future__ import annotations

from collections.abc import Sequence

from pmae.errors import SpecError
from pmae.spec.catalog import dataset_facts
from pmae.spec.evaluate import EvaluateSpec
from pmae.spec.experiment import ExperimentSpec
from pmae.spec.parts.basis import TRUNCATED_COMPONENTS, BasisSpec
from pmae.spec.parts.checkpoint import check_best_accuracy
from pmae.spec.parts.dataset import DatasetSpec
from pmae.spec.parts.evaluation import PAPER_K, EvaluationSpec, KnnSpec, check_warmups
from pmae.spec.parts.optimization import check_images_per_part
from pmae.spec.run_spec import RunSpec


def known_train_images(dataset: DatasetSpec) -> int | None:
    """Images of the train split; None where only the files would tell."""
    facts = dataset_facts(dataset.name)
    known = facts.train_images
    if known is not None and dataset.val == "none":
        known += facts.held_out_images
    if known is None or dataset.max_train_images is None:
        return known
    return min(known, dataset.max_train_images)


def check_submission(spec: RunSpec) -> None:
    """Refuse a new run that asks for more than its training, or its images if they are known, have.

    Args:
        spec: of a pretraining: resolved.

    Raises:
        SpecError: names the field, and what would be valid.
    """
    check_warmups(spec.evaluations, ("evaluations",))
    if not isinstance(spec, EvaluateSpec):
        facts = dataset_facts(spec.dataset.name)
        if facts.num_classes is not None:
            check_best_accuracy(spec.checkpoint, binary_labels=facts.binary_labels)
    num_train = None if isinstance(spec, EvaluateSpec) else known_train_images(spec.dataset)
    if num_train is None or isinstance(spec, EvaluateSpec):
        check_neighbours(spec.evaluations, None, ("evaluations",))
    else:
        check_sizes(spec, num_train)


def check_sizes(spec: ExperimentSpec, num_train: int) -> list[str]:
    """Refuse a run that has too few training images for what it asks.

    Args:
        spec: resolved.
        num_train: images of the train split.

    Returns:
        A sentence for everything that is fitted to the images instead.

    Raises:
        SpecError: names the field, and what would be valid.
    """
    notes = []
    images = min(spec.batch_size, num_train)
    check_images_per_part(images, spec.accumulate_steps, spec.devices)
    if images < spec.batch_size:
        notes.append(
            f"batch_size: {spec.batch_size} is more than the {num_train} training images; a step "
            f"takes all of them, and the learning rate is that of a batch of {num_train}"
        )
    if spec.basis is not None:
        fitted = min(spec.basis.fit_images or num_train, num_train) * (spec.basis.passes or 1)
        most = fit_components(spec.basis, fitted)
        if most != spec.basis.num_components:
            notes.append(
                f"basis.num_components: {fitted} images span at most {most} components; so many "
                f"are kept instead of {spec.basis.num_components}"
            )
    check_neighbours(spec.evaluations, num_train, ("evaluations",))
    return notes


def fit_components(basis: BasisSpec, num_images: int) -> int | None:
    """How many components a resolved basis keeps when it is fitted on some images.

    The default of a randomised basis is fitted to the images, a number that the spec names is not.
    A basis of all components is one of all pixels, however few images there are.

    Args:
        basis: resolved.
        num_images: that it is fitted on, each augmented one counted.

    Raises:
        SpecError: more components than the images span.
    """
    kept, most = basis.num_components, num_images - 1
    if basis.solver is None or kept is None or kept <= most:
        return kept
    if basis.solver == "randomized" and kept == TRUNCATED_COMPONENTS and most >= 2:
        return most
    raise SpecError(
        f"basis.num_components: {num_images} images span at most {most} components, not {kept}; "
        f"valid is 2 to {most}",
        field=("basis", "num_components"),
    )


def check_neighbours(
    evaluations: Sequence[EvaluationSpec], num_train: int | None, place: tuple[str, ...]
) -> None:
    """Refuse more neighbours than there are training images.

    Args:
        evaluations: resolved.
        num_train: images of the train split of the data set that is pretrained on; None: unknown.
        place: of the evaluations in their spec.

    Raises:
        SpecError: names the field, and what would be valid.
    """
    for index, evaluation in enumerate(evaluations):
        if not isinstance(evaluation, KnnSpec):
            continue
        other = evaluation.dataset
        found = num_train if other is None else known_train_images(other)
        if found is not None:
            labelled = max(1, round(evaluation.label_fraction * found))
            fit_neighbours(evaluation.k, labelled, (*place, index))


def fit_neighbours(
    k: tuple[int, ...], num_train: int, place: tuple[str | int, ...] = ()
) -> tuple[int, ...]:
    """The numbers of neighbours to try among so many training images.

    Of the default those that there are images for are tried; numbers that the spec names must fit.

    Raises:
        SpecError: more neighbours than images.
    """
    fitting = tuple(number for number in k if number <= num_train)
    if fitting == k or (fitting and k == PAPER_K):
        return fitting
    prefix = "".join(f"{part}." for part in place)
    raise SpecError(
        f"{prefix}k: {max(k)} neighbours of {num_train} training images; valid is up to "
        f"{num_train}",
        field=(*place, "k"),
    )
