"""This process and those it starts: what they import, their streams, their environment, when garbage is collected."""

# Nothing is imported here: `interpreter` must run before anything can be taken from the folder that one types in.
