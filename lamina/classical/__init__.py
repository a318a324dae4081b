"""The opponents of deep learning, and the verdict between them."""
