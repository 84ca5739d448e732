"""The weights that stand in for ImageNet's, with the code that made them."""
