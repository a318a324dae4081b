"""The loop and all that drives it."""
