"""Model of a checkpoint's basis, for downloads."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pmae.runs.events import FileFacts


class CheckpointBasis(BaseModel):
    """Basis of a checkpoint, and its files.

    Save the files in `bases/<digest>/` in the checkpoint's folder: there `pmae.load` finds them.
    """

    model_config = ConfigDict(frozen=True)

    digest: str = Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 over each file's name, a zero byte and the file's content, sorted by "
        "name. It is `basis_digest` in the checkpoint's config.json.",
    )
    kind: str = Field(examples=["pca"])
    channels: int
    resolution: int = Field(description="Edge length of its images, in pixels.")
    num_components: int
    files: dict[str, FileFacts] = Field(
        description="Download with `GET /checkpoints/{checkpoint_id}/basis/files/{file_name}`."
    )
