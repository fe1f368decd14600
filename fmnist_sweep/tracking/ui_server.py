"""The MLflow UI of a SQLite store, served to this machine alone by this very process: nothing is left when it ends."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Response

    from fmnist_sweep.tracking.store import Store

_HOST = "127.0.0.1"

# MLflow opens its assistant over a quarter of the page unless the browser remembers, under this name, that it has done
# so already. There is no setting of the server for it; the button that opens the assistant stays.
_ASSISTANT_KEY = "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"
_CLOSE_ASSISTANT = f"<script>try{{localStorage.setItem('{_ASSISTANT_KEY}','true')}}catch(e){{}}</script>".encode()

# Settings of servers somebody else starts: of who may call them, of where they keep what, and of their processes.
_FOREIGN_PREFIXES = ("MLFLOW_SERVER_", "_MLFLOW_", "MLFLOW_ENABLE_WORKSPACES", "prometheus_multiproc_dir")


def serve_ui(store: Store, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM: `mlflow server` with one worker, without its other processes and its job runner.

    Those are a process that waits, one that serves, and eight for the evaluation of language models.
    """
    _prepare_environment(store, port)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what MLflow itself imports
        import uvicorn
        from mlflow.server import app as flask_app
        from mlflow.server.fastapi_app import app
        from mlflow.server.handlers import initialize_backend_stores

    initialize_backend_stores(store.uri, store.uri, "mlflow-artifacts:/")
    flask_app.after_request(_keep_assistant_closed)
    # No trust in headers of a proxy: none is there to set them.
    uvicorn.run(
        app,
        host=_HOST,
        port=port,
        workers=1,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )


def _prepare_environment(store: Store, port: int) -> None:
    """Set what MLflow's server reads from the environment, most of it when it is imported."""
    for name in [name for name in os.environ if name.startswith(_FOREIGN_PREFIXES)]:
        del os.environ[name]
    os.environ["MLFLOW_SERVER_ALLOWED_HOSTS"] = f"{_HOST}:{port},localhost:{port}"
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = store.uri
    os.environ[constants.REGISTRY_STORE_URI_ENV_VAR] = store.uri
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = "./mlartifacts"  # as `mlflow server` does
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"


def _keep_assistant_closed(response: Response) -> Response:
    """Let the page itself tell the browser that the assistant has been opened before."""
    from flask import request

    if request.path == "/" and response.status_code == 200 and response.mimetype == "text/html":
        response.direct_passthrough = False
        response.set_data(response.get_data().replace(b"<head>", b"<head>" + _CLOSE_ASSISTANT, 1))
        del response.headers["ETag"]  # it is another page than MLflow's
        response.headers["Cache-Control"] = "no-store"
    return response
