"""What goes over the wire of a checkpoint's basis, so that the checkpoint can be used elsewhere."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pmae.runs.events import FileFacts


class CheckpointBasis(BaseModel):
    """The basis that a checkpoint was trained with, and its files.

    In a folder of the checkpoint they belong into `bases/<digest>/`: there it is found by
    `pmae.load`, on any machine.
    """

    model_config = ConfigDict(frozen=True)

    digest: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of its content: of each file's name, a zero byte and the file, in the "
        "order of their names. The checkpoint's config.json names it (`basis_digest`).",
    )
    kind: str = Field(examples=["pca"])
    channels: int
    resolution: int = Field(description="Edge length in pixels of the images it is of.")
    num_components: int
    files: dict[str, FileFacts] = Field(
        description="Fetched by `GET /checkpoints/{checkpoint_id}/basis/files/{file_name}`."
    )
