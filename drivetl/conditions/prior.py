"""A street's shape guessed from one image: vanishing point, sky, depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.optics import Field, Rgb

SKY_M = 400.0
"""Depth given to sky."""
FAR_M = 150.0
"""Depth beyond which nothing that is not sky is placed."""
NEAR_M = 2.0
"""Nearest ground a camera on a car sees; also keeps 1 / z bounded."""


@dataclass(frozen=True)
class View:
    """A camera with nothing left open."""

    focal_px: float
    horizon_px: float
    centre_px: float
    height_m: float
    canyon_m: float


def vanishing_point(image: Rgb) -> tuple[float, float]:
    """(column, row) px where the street's lines meet, by voting of edge pixels; a prior decides where none agree.

    Edge pixels of an image 320 px wide vote for the points of a grid that lie on their line; horizontals,
    verticals and weak edges have no vote. The prior is a horizon at 0.47 H and the middle column: cameras on cars. It
    gives way to a point that more than a tenth of the edges agree on, 1.25 times as many as on any that the prior
    likes: a camera on a mast looks down.
    """
    height, width = image.shape[:2]
    step = 320 / width
    small = cv2.resize(image, (320, max(4, round(height * step))), interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), (0, 0), 1.0).astype(np.float32)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.sqrt(gx * gx + gy * gy)  # cv2.magnitude rounds differently on differently aligned memory
    slanted = (np.abs(gx) > 0.27 * strength) & (np.abs(gy) > 0.27 * strength) & (strength > 30)
    slanted[: int(0.2 * small.shape[0])] = False  # roofs and branches have lines of their own
    ys, xs = np.nonzero(slanted)
    grid_x, grid_y = np.linspace(0.25, 0.75, 21) * 320, np.linspace(0.2, 0.65, 28) * small.shape[0]
    px, py = np.meshgrid(grid_x.astype(np.float32), grid_y.astype(np.float32))
    across, down = (px / 320 - 0.5).ravel(), (py / small.shape[0] - 0.47).ravel()
    prior = np.exp(-0.5 * (across / 0.1) ** 2 - 0.5 * (down / 0.09) ** 2)
    score = 0.02 * prior
    if len(ys) >= 50:
        chosen = np.linspace(0, len(ys) - 1, min(len(ys), 700)).astype(int)
        x, y = xs[chosen].astype(np.float32), ys[chosen].astype(np.float32)
        nx, ny = gx[y.astype(int), x.astype(int)], gy[y.astype(int), x.astype(int)]
        norm = np.hypot(nx, ny)
        nx, ny = nx / norm, ny / norm
        offset = np.abs(np.outer(nx, px) + np.outer(ny, py) - (nx * x + ny * y)[:, None])
        away = np.hypot(px.ravel()[None] - x[:, None], py.ravel()[None] - y[:, None])
        votes = ((offset < 2.0 + 0.03 * away) & (away > 12)).mean(axis=0)
        usual = float(votes[(np.abs(across) < 0.1) & (np.abs(down) < 0.09)].max())
        best = int(np.argmax(votes * np.exp(-0.5 * (across / 0.15) ** 2)))
        if votes[best] > max(0.1, 1.25 * usual):
            prior = np.exp(-0.5 * ((across - across[best]) ** 2 + (down - down[best]) ** 2) / 0.05**2)
        score = (votes**2 + 0.02) * prior
    weight = score**4
    weight /= weight.sum()
    return float(weight @ px.ravel() / step), float(weight @ py.ravel() * height / small.shape[0])


def sky_mask(image: Rgb, horizon_px: float) -> Field:
    """(H, W) 0..1 sky: flat, bright or blue regions above the horizon that reach the top of the image.

    Found at 400 px width, then brought to full resolution by matting on luma, which puts the edge where the
    image has it: no halo along trees and roofs.
    """
    height, width = image.shape[:2]
    if min(height, width) < 8:
        return np.zeros((height, width), np.float32)
    across = min(400, width)
    small = cv2.resize(image, (across, max(4, round(height * across / width))), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32) / 255
    light, blueness = values.mean(axis=2), values[..., 2] - values[..., 0]
    slope = cv2.blur(cv2.morphologyEx(light, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), (3, 3))
    limit = horizon_px * small.shape[0] / height
    above = np.arange(small.shape[0])[:, None] + 0.5 < limit
    if not above.any():
        return np.zeros((height, width), np.float32)
    bright = max(0.42, float(np.quantile(light[: max(1, int(limit))], 0.6)) * 0.8)
    candidate = above & (((light > bright) & (blueness > -0.06)) | ((blueness > 0.08) & (light > 0.3)))
    candidate &= slope < 0.10
    _, label, stats, _ = cv2.connectedComponentsWithStats(candidate.astype(np.uint8), connectivity=4)
    reaches_top = (stats[:, cv2.CC_STAT_TOP] <= 0.06 * small.shape[0]) & (
        stats[:, cv2.CC_STAT_AREA] >= 0.002 * candidate.size
    )
    reaches_top[0] = False
    if not reaches_top.any():
        return np.zeros((height, width), np.float32)
    area = np.maximum(stats[:, cv2.CC_STAT_AREA], 1)
    mean_light, mean_blue = (np.bincount(label.ravel(), part.ravel(), len(area)) / area for part in (light, blueness))
    model = int(np.argmax(np.where(reaches_top, area * (mean_light + mean_blue), 0)))
    like_the_sky = (mean_blue > min(-0.025, mean_blue[model] - 0.03)) & (mean_light > mean_light[model] - 0.25)
    main = (reaches_top & like_the_sky)[label]  # walls of one colour reach the top too, but are warmer or darker
    level, spread = float(light[main].mean()), float(light[main].std()) + 0.06
    gaps = candidate & (np.abs(light - level) < 1.5 * spread)  # sky between branches has the sky's colour
    gaps &= ((area >= 8) & like_the_sky)[label] & (label > 0)
    mask = _joined(main, gaps).astype(np.uint8)
    share = _matte(np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8), mask)
    fade = np.clip((horizon_px - np.arange(height, dtype=np.float32)[:, None]) / (0.03 * height), 0, 1)
    return np.asarray(share * fade, np.float32)


def _joined(main: npt.NDArray[np.bool_], gaps: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The main sky and those gaps that few pixels part from it or from one another: a bright window is not sky."""
    both = (main | gaps).astype(np.uint8)
    _, group = cv2.connectedComponents(cv2.dilate(both, np.ones((9, 9), np.uint8)), connectivity=4)
    known = np.zeros(int(group.max()) + 1, np.bool_)
    known[group[main]] = True
    return np.asarray(known[group] & (both > 0), np.bool_)


def _matte(grey: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> Field:
    """(H, W) 0..1 from a small 0 / 1 mask: near its rim a pixel is sky as far as its luma is the sky's.

    alpha = (L - L_other) / (L_sky - L_other), both means taken a few small pixels around; where they hardly differ
    the mask itself decides.
    """
    size, full = (mask.shape[1], mask.shape[0]), (grey.shape[1], grey.shape[0])
    cross = np.ones((5, 5), np.uint8)
    inner, outer = cv2.erode(mask, cross).astype(np.float32), cv2.dilate(mask, cross).astype(np.float32)
    light = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA) / np.float32(255), np.float32)
    sky, other = (cv2.blur(light * part, (13, 13)) / (cv2.blur(part, (13, 13)) + 1e-4) for part in (inner, 1 - outer))
    contrast = np.where(sky - other < 0.06, np.float32(0), sky - other)
    known = cv2.resize(mask.astype(np.float32), full)
    bright, gap, surely, perhaps = (
        np.asarray(cv2.resize(part, full), np.float32) for part in (sky, contrast, inner, outer)
    )
    alpha = 1 - (bright - grey * np.float32(1 / 255)) / np.maximum(gap, np.float32(0.06))
    alpha = np.where(gap < 0.06, known, np.clip(1.25 * alpha, 0, 1))
    return np.asarray(np.maximum(alpha * (perhaps > 0.02), surely > 0.98), np.float32)


def guided_filter(guide: Field, coarse: Field, radius: int, regularity: float) -> Field:
    """Fast guided filter (He & Sun 2015): `coarse` at its own size, the result at the guide's size and edges."""
    size = (coarse.shape[1], coarse.shape[0])
    small = cv2.resize(guide, size, interpolation=cv2.INTER_AREA)
    window = (2 * radius + 1, 2 * radius + 1)
    mean_g, mean_c = cv2.blur(small, window), cv2.blur(coarse, window)
    covariance = cv2.blur(small * coarse, window) - mean_g * mean_c
    variance = cv2.blur(small * small, window) - mean_g * mean_g
    share = covariance / (np.maximum(variance, 0) + regularity)
    base = mean_c - share * mean_g
    full = (guide.shape[1], guide.shape[0])
    slope, offset = (cv2.resize(cv2.blur(part, window), full) for part in (share, base))
    return np.asarray(slope * guide + offset, np.float32)


def depth_prior(image: Rgb, view: View, sky: Field) -> Field:
    """(H, W) metres: min(ground plane, canyon walls), objects pulled forward along the image's edges, sky far.

    Ground z = f h / (v - v0); walls z = f W / |u - u0|; computed at quarter size as 1 / z, smoothed above the
    horizon so that no edge of the canyon shows in the sky, then a guided filter on luminance.
    """
    height, width = image.shape[:2]
    step = 4 if min(height, width) >= 32 else 1
    rows, columns = max(1, height // step), max(1, width // step)
    v = (np.arange(rows, dtype=np.float32)[:, None] + 0.5) * height / rows - view.horizon_px
    u = (np.arange(columns, dtype=np.float32)[None, :] + 0.5) * width / columns - view.centre_px
    ground = np.maximum(v, 0) / (view.focal_px * view.height_m)
    walls = np.abs(u) / (view.focal_px * view.canyon_m)
    inverse: Field = np.clip(np.maximum(ground, walls), 1 / FAR_M, 1 / NEAR_M).astype(np.float32)
    smooth = cv2.GaussianBlur(inverse, (0, 0), max(columns / 30, 0.5))
    inverse = np.asarray(np.where(v < 0, smooth, inverse), np.float32)
    small = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY) / np.float32(255), np.float32)
    if step > 1:
        inverse = np.clip(guided_filter(grey, inverse, radius=8, regularity=0.01), 1 / FAR_M, 1 / NEAR_M)
    full = cv2.resize(inverse, (width, height), interpolation=cv2.INTER_LINEAR)
    full += sky * (1 / SKY_M - full)
    return np.asarray(1.0 / full, np.float32)
