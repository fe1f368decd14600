"""The write-ups' documented models: their runs, the rules that judge them, and a page for each."""
