"""One file per source format, each a pure parser of text and a reader that adds file and line. Free of torch."""
