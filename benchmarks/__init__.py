"""One command per published number: python -m benchmarks NAME. Results are JSON files under benchmarks/results/."""
