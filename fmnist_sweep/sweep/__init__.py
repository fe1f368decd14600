"""A command's studies, from the first proposal to the closed report."""
