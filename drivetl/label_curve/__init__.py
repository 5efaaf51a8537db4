"""How many labels do I need: AP against label count."""
