"""Weather, lighting and camera conditions that follow physics and never move a label. Free of torch."""
