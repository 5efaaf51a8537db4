"""Training: one loop, exact resume, one run directory."""
