"""Write configs/schema.json, the JSON schema of a fine-tuning YAML, for editors. Run it after a key was changed.

    python tools/schema.py

It needs no argument; tests/test_config.py compares the file with the model.
"""

import json
from pathlib import Path

from drivetl.config import json_schema
from drivetl.files.write import write_atomically

FILE = Path(__file__).parents[1] / "configs" / "schema.json"

if __name__ == "__main__":
    write_atomically(FILE, json.dumps(json_schema(), indent=1) + "\n")
    print(f"wrote {FILE}")
