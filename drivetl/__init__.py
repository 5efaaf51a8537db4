"""drivetl fine-tunes object detectors for driving scenes and measures how they hold up in bad weather."""

__version__ = "0.1.0"
