"""What trials came to, what models get wrong, and how far their probabilities can be believed: values in, values out."""
