"""How a picture's 8-bit values become a network's input: the one normalisation of training and evaluation."""

IMAGE_MEAN = (0.485, 0.456, 0.406)
"""Mean of R, G, B in 0..1 (ImageNet's, which public weights expect)."""

IMAGE_STD = (0.229, 0.224, 0.225)
"""Standard deviation of R, G, B in 0..1."""
