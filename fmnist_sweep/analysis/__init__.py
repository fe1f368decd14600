"""What trials came to, what models get wrong, how far their probabilities can be believed: values in, values out."""
