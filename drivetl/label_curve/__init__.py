"""How many labels do I need? AP against the number of labelled frames."""
