"""The robustness report: one self-contained HTML page, and its numbers as text and CSV."""
