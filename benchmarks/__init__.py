"""Speed of the zoo beside its peers: `python -m benchmarks`, from the repository root."""
