"""Classes of two datasets that are the same, related, or not related."""

TARGET = {
    "car": {"labels": ["Car", "automobile"], "from": {"car": 1.0}},
    "pedestrian": {"labels": ["Pedestrian"], "from": {"person": 1.0}},
    "cyclist": {"labels": ["Cyclist"], "from": {"person": 0.5, "bicycle": 0.5}},
    "tram": {"labels": ["Tram"], "from": {"train": 0.6, "bus": 0.4}},
}
SOURCE = {
    "person": {"labels": ["person"], "from": {"person": 1.0}},
    "bicycle": {"labels": ["bicycle"], "from": {"bicycle": 1.0}},
    "Automobile": {"labels": ["vehicle"], "from": {"car": 1.0}},
    "traffic light": {"labels": ["light"], "from": {"traffic light": 1.0}},
    "bus": {"labels": ["bus"], "from": {"bus": 1.0}},
}
