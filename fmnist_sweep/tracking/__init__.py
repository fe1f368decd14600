"""The tracking store: runs, models, datasets and the registry. Only this room knows MLflow."""
