"""read -> audit -> split -> decode once into a memory-mapped cache -> batches."""
