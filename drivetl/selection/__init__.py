"""Which frames to label next: the pool, the detector's doubts and features, the choice, and what is written."""
