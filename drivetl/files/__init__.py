"""Files: atomic writes, safe paths, bounded images, shipped files. Imports nothing but errors."""
