"""Compare the models of two specs by the shapes of their weights. Imports no torch."""

from __future__ import annotations

from pmae.spec import ExperimentSpec

Shape = dict[str, int | None]


def model_differences(
    there: ExperimentSpec,
    here: ExperimentSpec,
    *,
    channels_there: int | None,
    channels_here: int | None,
) -> list[str]:
    """List the settings that give the weights of two models different shapes.

    The method is not compared, as PMAE and MAE share their model.

    Args:
        there: of the checkpoint; resolved.
        here: of the run that starts from it; resolved.
        channels_there: channels of the checkpoint's images; None: unknown, and not compared.
        channels_here: channels of the run's images, likewise.

    Returns:
        A phrase for each difference; empty if none is known.
    """
    ours = _shape(here, channels_here)
    return [
        f"{name} is {value} there and {ours[name]} here"
        for name, value in _shape(there, channels_there).items()
        if value is not None and ours[name] is not None and value != ours[name]
    ]


def _shape(spec: ExperimentSpec, channels: int | None) -> Shape:
    """The settings that shape the weights; the number of heads does not."""
    model = spec.model
    return {
        "dataset.resolution": spec.resolution,
        "channels": channels,
        "model.patch_size": model.patch_size,
        "model.embed_dim": model.embed_dim,
        "model.depth": model.depth,
        "the MLP's width": int((model.embed_dim or 0) * model.mlp_ratio),
        "model.decoder_embed_dim": model.decoder_embed_dim,
        "model.decoder_depth": model.decoder_depth,
        "the decoder's MLP width": int(model.decoder_embed_dim * model.decoder_mlp_ratio),
    }
