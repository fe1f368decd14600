"""The names under which a store keeps things: tags, artifact files, the registered model.

Stores of earlier releases have these names too, so none of them ever changes.
"""

from __future__ import annotations

from typing import Final

# What a run is.
KIND_TAG: Final = "fmnist.kind"  # sweep, study, trial, promotion or confirmation
JOURNAL_TAG: Final = "fmnist.journal"  # token of the journal that the run belongs to
NONCE_TAG: Final = "fmnist.nonce"  # by which that journal knows a run that it began, and did not note yet
STUDIES_TAG: Final = "fmnist.studies"  # of a sweep: folder names of its studies, with spaces between
JOURNALS_TAG: Final = "fmnist.journals"  # of a sweep: tokens of its studies' journals, with spaces between
SWEEP_ID_TAG: Final = "fmnist.sweep_id"
STUDY_ID_TAG: Final = "fmnist.study_id"
IDENTITY_TAG: Final = "fmnist.identity"  # of a study: all that decides its results, JSON
TRIAL_ID_TAG: Final = "fmnist.trial_id"
ATTEMPT_TAG: Final = "fmnist.attempt"  # from 1
FOLLOWED_BY_TAG: Final = "fmnist.followed_by"  # run of the next attempt
FOLLOWS_TAG: Final = "fmnist.follows"  # run of the attempt before
CONTINUES_TAG: Final = "fmnist.continues"  # trial of the rung below, whose training this one went on with
PROMOTED_FROM_TAG: Final = "fmnist.promoted_from"  # the same where each rung is a training of its own
FAILURE_TAG: Final = "fmnist.failure"  # why it failed, in one sentence

# The id tag of a run, by its kind.
ID_TAGS: Final = {"sweep": SWEEP_ID_TAG, "study": STUDY_ID_TAG, "trial": TRIAL_ID_TAG}

# What it was trained on, and where.
DATA_TAG: Final = "fmnist.data"  # source and a short sha256 of the images
DESCRIPTION_TAG: Final = "fmnist.description"  # of other data than Fashion-MNIST: its name, shape and labels, JSON
CANONICAL_TAG: Final = "fmnist.canonical"  # true or false
PRECISION_TAG: Final = "fmnist.precision"
EXECUTOR_TAG: Final = "fmnist.executor"
THREADS_TAG: Final = "fmnist.threads"
MACHINE_TAG: Final = "fmnist.machine"
GIT_TAG: Final = "fmnist.git"  # commit of this project, with a + where files were changed since
PYTHON_TAG: Final = "fmnist.python"
PLATFORM_TAG: Final = "fmnist.platform"

# What a sweep or study came to.
BEST_RUN_TAG: Final = "fmnist.best_run"
BEST_NAME_TAG: Final = "fmnist.best_name"

# Models.
MODEL_TAG: Final = "fmnist.model"  # of a run
MODEL_NOT_KEPT: Final = "not kept (tracking.keep_models)"  # value of MODEL_TAG
SHA256_TAG: Final = "fmnist.sha256"  # of a logged model and of a registered version: of its .keras file

# Test images.
TEST_OPENED_TAG: Final = "fmnist.test_opened"  # when the run's model was scored on the test images
TEST_OPENING_TAG: Final = "fmnist.test_opening"  # which opening of the test images was for this run
TEST_PART_TAG: Final = "fmnist.test_part"  # which test images: a hash of them in any order

# Promotions, confirmations and registered versions.
CONFIG_HASH_TAG: Final = "fmnist.config_hash"
CONFIGURATION_TAG: Final = "fmnist.configuration"  # JSON
PLUGINS_TAG: Final = "fmnist.plugins"
FINALIST_TAG: Final = "fmnist.finalist"  # token of the journal of the fresh trainings
NAME_TAG: Final = "fmnist.name"
COMMAND_TAG: Final = "fmnist.command"  # that trains the model again
TRIAL_RUN_TAG: Final = "fmnist.trial_run"  # run of the search that the configuration comes from
PROMOTION_TAG: Final = "fmnist.promotion"  # run of the promotion
VERDICT_TAG: Final = "fmnist.verdict"
RULE_TAG: Final = "fmnist.rule"  # JSON
DECISION_TAG: Final = "fmnist.decision"
AGAINST_TAG: Final = "fmnist.against"  # number of the champion's version, or NO_CHAMPION
NO_CHAMPION: Final = "nobody"  # in the place of that number, also in paths of evidence
WHY_TAG: Final = "fmnist.why"
SEED_TAG: Final = "fmnist.seed"
SEEDS_TAG: Final = "fmnist.seeds"  # how many
VERSIONS_TAG: Final = "fmnist.versions"  # of libraries, JSON
WEIGHTS_SHA256_TAG: Final = "fmnist.weights_sha256"
PREDICTIONS_SHA256_TAG: Final = "fmnist.predictions_sha256"
VAL_ACCURACY_TAG: Final = "fmnist.val_accuracy"
VAL_ACCURACY_SD_TAG: Final = "fmnist.val_accuracy_sd"
TEST_ACCURACY_TAG: Final = "fmnist.test_accuracy"
TEST_ACCURACY_MEAN_TAG: Final = "fmnist.test_accuracy_mean"
TEST_ACCURACY_SD_TAG: Final = "fmnist.test_accuracy_sd"
TEST_OPENINGS_TAG: Final = "fmnist.test_openings"  # how many
PARAMETERS_TAG: Final = "fmnist.parameters"
SIZE_BYTES_TAG: Final = "fmnist.size_bytes"
LATENCY_MS_TAG: Final = "fmnist.latency_ms"

# MLflow's own, which its UI shows.
PARENT_RUN_TAG: Final = "mlflow.parentRunId"
SOURCE_NAME_TAG: Final = "mlflow.source.name"
SOURCE_TYPE_TAG: Final = "mlflow.source.type"
USER_TAG: Final = "mlflow.user"
NOTE_TAG: Final = "mlflow.note.content"

# Of an experiment: what the images are called that its trials are trained on, if it is not Fashion-MNIST. The
# registered model has that name.
DATA_NAME_TAG: Final = "fmnist.data_name"

# The experiment of a store unless another is named.
DEFAULT_EXPERIMENT: Final = "fashion-mnist"

# The registered model.
MODEL_NAME: Final = "fashion-mnist"
CHAMPION_ADDRESS: Final = f"models:/{MODEL_NAME}@champion"
MOVE_TAG_PREFIX: Final = "fmnist.move."  # a move of an alias, with its number appended
TEST_DECISION_TAG_PREFIX: Final = "fmnist.test_decision."  # a decision on test images, with its key appended
LEDGER_TAG_PREFIX: Final = "fmnist.test_ledger."  # head of a ledger of openings, with the ledger's key appended

# Metrics of a run.
MIRRORED_ACCURACY: Final = "test_accuracy_mirrored"  # of predictions averaged over each image and its mirror image

# Artifact files of a run.
PREDICTIONS_FILE: Final = "predictions.npz"
TEST_PREDICTIONS_FILE: Final = "test_predictions.npz"
CONFIG_FILE: Final = "config.yaml"
OVERRIDES_FILE: Final = "overrides.txt"
IDENTITY_FILE: Final = "identity.json"
DIAGNOSIS_FILE: Final = "diagnosis.json"
