"""The weights that stand in for ImageNet's: the file, the log of its training, the code for it."""
