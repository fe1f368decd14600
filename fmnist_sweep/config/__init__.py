"""A command's jobs: composed, checked and named by their content. Only this room knows Hydra."""
