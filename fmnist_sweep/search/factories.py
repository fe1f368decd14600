"""The oracles by name: each factory's keyword-only signature is the schema of its section `search`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from fmnist_sweep import plugins
from fmnist_sweep.search import rungs, space, tunable
from fmnist_sweep.search.parameters import find_tunables

if TYPE_CHECKING:
    import keras_tuner

    from fmnist_sweep.search.oracles import Replayable

ORACLES = plugins.ORACLES


@plugins.keras_oracle
def create_random_oracle(
    hyperparameters: "keras_tuner.HyperParameters", common: dict[str, Any], epochs: int
) -> "Replayable":
    """Create the oracle that draws values independently, none twice."""
    from fmnist_sweep.search import oracles

    return oracles.RandomOracle(hyperparameters=hyperparameters, max_trials=None, **common)


@plugins.keras_oracle
def create_bayesian_oracle(
    hyperparameters: "keras_tuner.HyperParameters",
    common: dict[str, Any],
    epochs: int,
    *,
    initial_points: tunable.Count,
    alpha: Annotated[float, Field(gt=0, le=1_000_000_000)],
    beta: Annotated[float, Field(ge=0, le=1_000_000_000)],
) -> "Replayable":
    """Create the oracle that fits a Gaussian process to the results so far and goes by its upper confidence bound."""
    from fmnist_sweep.search import oracles

    return oracles.BayesianOracle(
        hyperparameters=hyperparameters,
        num_initial_points=initial_points,
        alpha=alpha,
        beta=beta,
        max_trials=None,
        **common,
    )


@plugins.keras_oracle
def create_hyperband_oracle(
    hyperparameters: "keras_tuner.HyperParameters",
    common: dict[str, Any],
    epochs: int,
    *,
    factor: Annotated[int, Field(ge=2, le=tunable.MAX_COUNT)],
    iterations: tunable.Count,
    restart: bool = False,
) -> "Replayable":
    """Create the oracle of successive halving in brackets (Li et al., 2018), up to `train.epochs`."""
    from fmnist_sweep.search import oracles

    oracle = oracles.HyperbandOracle(
        hyperparameters=hyperparameters,
        max_epochs=epochs,
        factor=factor,
        hyperband_iterations=iterations,
        **common,
    )
    oracle.restarts = restart
    return oracle


@plugins.keras_oracle
def create_asha_oracle(
    hyperparameters: "keras_tuner.HyperParameters",
    common: dict[str, Any],
    epochs: int,
    *,
    factor: Annotated[int, Field(ge=2, le=tunable.MAX_COUNT)],
    lowest_epochs: tunable.Count,
    proposer: Literal["random", "tpe"],
    initial_points: tunable.Count,
    restart: bool = False,
) -> "Replayable":
    """Create the oracle of asynchronous successive halving in one bracket (Li et al., 2020), up to `train.epochs`."""
    own = {
        "hyperparameters": hyperparameters,
        "rung_epochs": rungs.list_asha_rungs(lowest_epochs, factor, epochs),
        "factor": factor,
        "max_trials": None,
        **common,
    }
    oracle: Replayable
    if proposer == "random":
        from fmnist_sweep.search import asha

        oracle = asha.AshaOracle(**own)
    else:
        from fmnist_sweep.search import tpe

        oracle = tpe.AshaTpeOracle(initial_points=initial_points, **own)
    oracle.restarts = restart
    return oracle


@plugins.keras_oracle
def create_tpe_oracle(
    hyperparameters: "keras_tuner.HyperParameters",
    common: dict[str, Any],
    epochs: int,
    *,
    initial_points: tunable.Count,
) -> "Replayable":
    """Create the oracle of tree-structured Parzen estimators (Bergstra et al., 2011), multivariate, by Optuna."""
    from fmnist_sweep.search import tpe

    return tpe.TpeOracle(hyperparameters=hyperparameters, initial_points=initial_points, max_trials=None, **common)


@plugins.keras_oracle
def create_grid_oracle(
    hyperparameters: "keras_tuner.HyperParameters", common: dict[str, Any], epochs: int
) -> "Replayable":
    """Create the oracle that proposes every combination in order."""
    from fmnist_sweep.search import oracles

    return oracles.GridOracle(hyperparameters=hyperparameters, max_trials=None, **common)


def create_oracle(
    name: str,
    hyperparameters: "keras_tuner.HyperParameters",
    common: dict[str, Any],
    settings: Mapping[str, Any],
    arguments: Mapping[str, Any],
) -> "Replayable":
    """Create the oracle of this name for a space that has tunables."""
    registration = ORACLES.find_registration(name)
    assert registration is not None
    create: Callable[..., Replayable] = registration.function
    if registration.positional is None:
        # With the epochs of train.epochs, which Hyperband and ASHA divide among their trials.
        return create(hyperparameters, common, space.read_epochs(settings), **arguments)
    from fmnist_sweep.search.own_oracle import OwnOracle

    handed = {"seed": common["seed"]} if ORACLES.takes(name, "seed") else {}
    return OwnOracle(
        name,
        partial(registration.function, **arguments, **handed),
        dict(find_tunables(settings)),
        hyperparameters=hyperparameters,
        max_trials=None,
        **common,
    )


def needs_optuna(name: str, arguments: Mapping[str, Any]) -> bool:
    """Whether Optuna draws the proposals, so that its version decides them."""
    return name == "tpe" or (name == "asha" and arguments["proposer"] == "tpe")
