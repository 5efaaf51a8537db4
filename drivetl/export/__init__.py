"""Export of trained detectors to other runtimes."""
