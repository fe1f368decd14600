"""Figures: values in, PNG bytes out."""
