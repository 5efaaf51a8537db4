"""Learning: one loop, exact resume, one run directory."""
