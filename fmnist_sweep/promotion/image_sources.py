"""Finalists and a champion whose images come from different files: Kaggle's hold the test images in another order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmnist_sweep.data.folder import holds_other_source_only, resolve_folder
from fmnist_sweep.errors import PromotionRefused
from fmnist_sweep.promotion.champion import read_champion
from fmnist_sweep.tracking.data_places import find_data_dir
from fmnist_sweep.tracking.test_predictions import read_test_predictions
from fmnist_sweep.tracking.trial_data import build_data_config

if TYPE_CHECKING:
    from fmnist_sweep.data import DataConfig
    from fmnist_sweep.promotion.champion import Champion
    from fmnist_sweep.promotion.configuration import TrialConfiguration
    from fmnist_sweep.promotion.preparation import Promotion


def choose_data_dir(promotion: Promotion, source: str) -> str | None:
    """The folder to read images of a source from; None for the one that a sweep would find by itself.

    The folder that was named is for the first finalist's source. If it has only files of another, FMNIST_DATA_DIR is
    the next place to look. Without one, a folder is found by what the store says of the images (`find_data_dir`).
    """
    data_dir = promotion.request.data_dir
    if data_dir is None:
        if source not in promotion.data_folders:
            promotion.data_folders[source] = _find_folder(promotion, source)
        return promotion.data_folders[source]
    if source == promotion.configurations[0].data_source:
        return data_dir
    folders = (data_dir, os.environ.get("FMNIST_DATA_DIR"))
    return next((each for each in folders if each and not holds_other_source_only(resolve_folder(each), source)), None)


def _find_folder(promotion: Promotion, source: str) -> str | None:
    """The folder of images that a finalist was trained on, or the champion if no finalist has this source."""
    champion = read_champion(promotion.store)
    known = [*promotion.configurations, *([] if champion is None else [champion.configuration])]
    configuration = next((each for each in known if each.data_source == source), None)
    if configuration is None:
        return None
    data = {**configuration.data, "include_validation": False}  # as when it was chosen

    def build(folder: str | None) -> DataConfig:
        return build_data_config(data, folder, configuration.name)

    run_id, tag, name = configuration.trial_run, configuration.data_tag, configuration.name
    return find_data_dir(promotion.store, run_id, build, tag, name, promotion.view.say)


def refuse_unknown_order(
    promotion: Promotion, finalists: Sequence[TrialConfiguration], champion: Champion | None
) -> None:
    """Raise PromotionRefused if a finalist has images of another source, which no hashes match to the champion's.

    Earlier releases did not keep the hashes.
    """
    if champion is None or champion.confirmations is None:
        return
    source = champion.configuration.data_source
    other = next((finalist for finalist in finalists if finalist.data_source != source), None)
    if other is None:
        return
    for run in champion.confirmations.scored_runs:
        if read_test_predictions(promotion.store, run.run_id, run.name).image_hashes is None:
            raise PromotionRefused(
                f"{other.name} was trained on {other.data_source} but version {champion.number} (the champion) on "
                f"{source}, whose test images are in another order, and it was scored by an earlier release, which did "
                f"not keep which image is which: train {other.name} again with data={source}."
            )
