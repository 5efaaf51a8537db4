"""Two rows of the published robustness table with the cells behind them.

Figures reported with Michaelis et al. 2019, "Benchmarking Robustness in Object Detection": Faster R-CNN R50-FPN under
the 15 corruptions at severities 1 to 5, in percent, rounded here to two decimals. The paper prints clean P, mPC and
rPC to one decimal.
"""

from __future__ import annotations

CITYSCAPES_AP = """
gaussian_noise     2.73  0.47  0.19  0.04  0.00
shot_noise         4.36  0.89  0.13  0.04  0.00
impulse_noise      4.27  0.79  0.25  0.06  0.00
defocus_blur      27.13 20.15  9.79  4.59  2.15
glass_blur        27.22 20.26  7.17  4.58  3.76
motion_blur       28.86 21.59 12.16  6.15  3.71
zoom_blur          3.17  1.29  1.13  0.84  0.91
snow               6.27  0.27  0.47  0.37  0.01
frost             22.75 13.11  8.16  7.16  4.79
fog               28.41 26.09 23.69 22.84 17.79
brightness        34.23 30.01 25.77 20.26 14.78
contrast          31.46 28.68 22.90 10.48  2.06
elastic_transform 36.16 35.28 34.01 32.73 31.37
pixelate          25.39 26.33  8.54  4.19  3.24
jpeg_compression  20.41 12.98 10.03  5.24  2.58
"""
"""COCO AP on Cityscapes."""

VOC_AP50 = """
gaussian_noise    69.56 59.62 44.25 25.78 11.04
shot_noise        71.04 61.09 46.89 25.29 13.62
impulse_noise     56.25 50.01 44.62 27.51 13.15
defocus_blur      63.37 53.19 35.17 21.95 14.70
glass_blur        56.48 41.34 19.51 14.95 11.11
motion_blur       66.61 51.82 34.79 22.72 17.72
zoom_blur         46.14 36.90 33.75 27.87 24.89
snow              67.78 49.82 53.41 44.02 37.75
frost             70.26 58.67 49.32 47.53 41.12
fog               76.10 74.37 71.70 70.89 65.54
brightness        79.29 78.17 75.79 73.30 68.96
contrast          76.23 73.64 67.37 50.48 26.90
elastic_transform 69.02 62.50 51.94 43.86 33.83
pixelate          71.49 67.43 49.48 34.06 22.78
jpeg_compression  71.08 65.45 60.71 46.95 32.18
"""
"""AP50 on PASCAL VOC, the mean of its 20 classes."""

PRINTED = {
    "Cityscapes": (CITYSCAPES_AP, 36.39, (36.4, 12.2, 33.4)),
    "PASCAL VOC": (VOC_AP50, 80.45, (80.5, 48.6, 60.4)),
}
"""Data set -> (cells, performance on clean images, printed P, mPC and rPC)."""


def cells_of(text: str) -> dict[str, dict[int, float]]:
    """Condition -> severity -> performance as a fraction."""
    rows = (line.split() for line in text.split("\n") if line)
    return {name: {s: float(value) / 100 for s, value in enumerate(values, 1)} for name, *values in rows}
