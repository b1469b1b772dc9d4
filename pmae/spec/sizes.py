"""Check a spec against the number of training images. Imports no torch.

A run is checked when it is submitted, if the number is known then, or else once its trainer has
found the images. A run that resumes from a checkpoint is not checked again.
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
    """Number of images of the train split; None if it depends on the files."""
    facts = dataset_facts(dataset.name)
    known = facts.train_images
    if known is not None and dataset.val == "none":
        known += facts.held_out_images
    if known is None or dataset.max_train_images is None:
        return known
    return min(known, dataset.max_train_images)


def check_submission(spec: RunSpec) -> None:
    """Check a new run's evaluations, retention and, if the number of images is known, its sizes.

    Args:
        spec: resolved, if of a pretraining.

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
    """Check that there are enough training images for a run.

    Args:
        spec: resolved.
        num_train: images of the train split.

    Returns:
        A sentence for each number that is lowered to suit the images.

    Raises:
        SpecError: names the field, and what would be valid.
    """
    notes = []
    images = min(spec.batch_size, num_train)
    check_images_per_part(images, spec.accumulate_steps, spec.devices)
    if images < spec.batch_size:
        notes.append(
            f"batch_size: {spec.batch_size} is more than the {num_train} training images; a step "
            f"uses all of them, and the learning rate is that of a batch of {num_train}"
        )
    if spec.basis is not None:
        fitted = min(spec.basis.fit_images or num_train, num_train) * (spec.basis.passes or 1)
        kept = fit_components(spec.basis, fitted)
        if kept != spec.basis.num_components:
            notes.append(
                f"basis.num_components: {fitted} images span at most {kept} components, which are "
                f"kept instead of {spec.basis.num_components}"
            )
    check_neighbours(spec.evaluations, num_train, ("evaluations",))
    return notes


def fit_components(basis: BasisSpec, num_images: int) -> int | None:
    """Number of components that a resolved basis keeps when it is fitted to some images.

    Too few images lower the default of a randomised basis, but not a number given in the spec. A
    basis that is not truncated has a component for each pixel, however few images there are.

    Args:
        basis: resolved.
        num_images: to fit on, counting each augmented copy.

    Returns:
        The number of components; None if the basis is not truncated.

    Raises:
        SpecError: more components than the images span.
    """
    kept, max_components = basis.num_components, num_images - 1
    if basis.solver is None or kept is None or kept <= max_components:
        return kept
    if basis.solver == "randomized" and kept == TRUNCATED_COMPONENTS and max_components >= 2:
        return max_components
    raise SpecError(
        f"basis.num_components: {num_images} images span at most {max_components} components, "
        f"not {kept}; expected 2 to {max_components}",
        field=("basis", "num_components"),
    )


def check_neighbours(
    evaluations: Sequence[EvaluationSpec], num_train: int | None, place: tuple[str, ...]
) -> None:
    """Refuse more neighbours than there are training images.

    Args:
        evaluations: resolved.
        num_train: images of the pretraining data set's train split; None: unknown.
        place: path of the evaluations in the spec.

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
    """Numbers of neighbours to try among ``num_train`` training images.

    Numbers of the default that exceed the images are left out; numbers given in the spec must fit.

    Raises:
        SpecError: more neighbours than images.
    """
    fitting = tuple(number for number in k if number <= num_train)
    if fitting == k or (fitting and k == PAPER_K):
        return fitting
    prefix = "".join(f"{part}." for part in place)
    raise SpecError(
        f"{prefix}k: {max(k)} neighbours of {num_train} training images; expected at most "
        f"{num_train}",
        field=(*place, "k"),
    )
