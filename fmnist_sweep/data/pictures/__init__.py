"""Pictures of any size as 28x28 images: the garment is found, cut out, made bright on black, and fitted."""
