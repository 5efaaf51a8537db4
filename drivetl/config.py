"""The typed documents behind the YAML files. Plain types; a cross-check names the key to change."""
