"""The write-ups: the runs that reproduce them, the rules that judge these, and a page for each."""
