"""The Python library behind `import drivetl`: load, detect, read a dataset, evaluate. Paths may be texts."""
