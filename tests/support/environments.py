"""An environment with everything odd that a user's shell, notebook or machine may hold, and that no command follows."""

from __future__ import annotations

ODD = {
    # A Jupyter kernel, and terminals.
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "TERM": "dumb",
    "NO_COLOR": "1",
    "COLUMNS": "1",
    "TZ": "Nowhere/Odd",
    "HOME": "/dev/null/home",
    # Python, and what computes.
    "PYTHONWARNINGS": "error",
    "PYTHONHASHSEED": "7",
    "PYTHONUNBUFFERED": "1",
    "PYTHONOPTIMIZE": "2",
    "KERAS_BACKEND": "jax",
    "TF_USE_LEGACY_KERAS": "1",
    "OMP_NUM_THREADS": "all",
    "CUDA_VISIBLE_DEVICES": "7,none",
    # Stores, proxies and certificates of other projects.
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
    "MLFLOW_REGISTRY_URI": "databricks-uc",
    "MLFLOW_EXPERIMENT_NAME": "theirs",
    "MLFLOW_EXPERIMENT_ID": "99",
    "MLFLOW_RUN_ID": "0123456789abcdef0123456789abcdef",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    "HYDRA_FULL_ERROR": "1",
    "HTTP_PROXY": "http://127.0.0.1:1",
    "HTTPS_PROXY": "nonsense",
    "REQUESTS_CA_BUNDLE": "/dev/null/none",
    "SSL_CERT_FILE": "/dev/null/none",
    "GIT_DIR": "/dev/null/none",
}
