"""The schema of the config group `data`; every default lives in its YAML, none here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# More than any set of such images has, so that neither a header nor a number typed can fill the memory: 784 MB.
MAX_IMAGES = 1_000_000

Source = Literal["fashion_mnist", "kaggle_csv", "drawn"]


class DataConfig(BaseModel):
    """What to learn from, and how much of it is held out.

    `include_validation` trains on the validation images too, which then judge nothing. `limit` counts images
    before the validation split; `images` counts the training images that `drawn` draws (its test set has a
    sixth as many), also where it stands in for Fashion-MNIST.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    source: Source
    # An empty FMNIST_DATA_DIR names no folder; as a path it would be the working directory.
    dir: Annotated[str | None, BeforeValidator(lambda folder: folder or None)]
    download: bool
    limit: int | None = Field(ge=20)
    validation: float = Field(gt=0, lt=1)
    include_validation: bool
    split_seed: int = Field(ge=0)
    fallback: Literal["drawn"] | None
    images: int = Field(ge=20, le=MAX_IMAGES)
    drawn_seed: int = Field(ge=0)

    def describe_content(self) -> dict[str, Any]:
        """Describe which images are used, and not where they are: the data section of a trial's config.yaml."""
        settings = self.model_dump(exclude={"dir", "download", "fallback"})
        if not self.include_validation:  # as trials were described before there was that choice
            del settings["include_validation"]
        return settings
