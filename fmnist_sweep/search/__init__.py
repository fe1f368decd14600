"""What may be proposed: tunables, the space they span, and the oracles that are asked and told.

Only this room knows KerasTuner.
"""
