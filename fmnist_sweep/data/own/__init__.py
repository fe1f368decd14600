"""A user's own labelled images: IDX files, an .npz file, or a folder of pictures."""
