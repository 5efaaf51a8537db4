"""From source objects to a written dataset: build, split, check for leaks, account. Free of torch."""
