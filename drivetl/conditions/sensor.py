"""Between the light and the file: motion, focus, noise, dirt, compression, broken rows.

Every effect has the form `effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB`. None moves content (taps and
kernels are centred), except `rolling_shutter`.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from drivetl.conditions.drops import lens_drops
from drivetl.conditions.optics import Field, Planes, Rgb, disc_kernel, normal, smooth_noise, soften, to_display, uniform
from drivetl.conditions.scene import Scene

WIDE_PX = 2.5
"""Longer motion blurs are computed at half the resolution."""


def ego_blur(scene: Scene, rng: np.random.Generator, *, path_m: float) -> Rgb:
    """Blur by the car's own motion over `path_m` metres (speed x exposure time, 20 m/s x 1/100 s = 0.2 m).

    A point at depth z moves by (u - u0, v - v0) path / z during the exposure: radially, near things most. Taps lie
    at -1/2..+1/2 of the path, so the blur is centred. Averaged in linear light; from 1.5 to 3.5 px on at half the
    resolution, in passes of three taps: 3, 9, 27 along the path.
    """
    share = np.minimum(np.float32(path_m) / scene.depth, np.float32(0.5))
    flow = np.stack([scene.columns * share, scene.rows * share])
    length = np.asarray(cv2.magnitude(flow[0], flow[1]), np.float32)
    longest = float(length.max())
    image = np.asarray(cv2.merge([*scene.linear, scene.linear[0]]), np.float32)  # OpenCV moves four faster than three
    window = _window(length < WIDE_PX + 1)
    sharp = _three_taps(image, flow, 1 / 3, window)
    if longest > WIDE_PX:
        size = (max(1, scene.width // 2), max(1, scene.height // 2))
        small = np.asarray(cv2.resize(image, size), np.float32)
        shorter = np.stack([cv2.resize(part, size) for part in flow]) * np.float32(size[0] / scene.width)
        reach = 1 / 3
        while reach * longest > 1 and reach > 1 / 40:
            small = _three_taps(small, shorter, reach, (slice(0, size[1]), slice(0, size[0])))
            reach /= 3
        image = np.asarray(cv2.resize(small, (scene.width, scene.height)), np.float32)
        little = np.clip(np.float32(0.5 * WIDE_PX + 0.5) - np.float32(0.5) * length[window], 0, 1)
        sharp -= image[window]
        sharp *= cv2.merge([little] * 4) if little.size else 0
        image[window] += sharp
    else:
        image = sharp
    return to_display(_planes(image))


def _planes(image: npt.NDArray[np.float32]) -> Planes:
    """(H, W, 3 or more) -> (3, H, W)."""
    planes = np.empty((3, *image.shape[:2]), np.float32)
    cv2.mixChannels([image], list(planes), [0, 0, 1, 1, 2, 2])
    return planes


def _window(where: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest rectangle that holds all that is true."""
    lines = (np.flatnonzero(where.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(int(n[0]), int(n[-1]) + 1) if len(n) else slice(0, 0) for n in lines)
    return rows, columns


def _three_taps(
    image: npt.NDArray[np.float32], flow: npt.NDArray[np.float32], reach: float, window: tuple[slice, slice]
) -> npt.NDArray[np.float32]:
    """The mean of an (H, W, C) image at -reach, 0 and +reach of each pixel's (2, H, W) flow, inside a window."""
    rows, columns = window
    total = image[window].copy()
    across = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    for first in range(rows.start, rows.stop, 32):  # as many rows as stay in the processor's cache
        band = slice(first, min(first + 32, rows.stop))
        down = np.arange(band.start, band.stop, dtype=np.float32)[:, None]
        part = total[first - rows.start : first - rows.start + 32]
        for offset in (-reach, reach):
            map_x, map_y = flow[:, band, columns] * np.float32(offset)
            map_x += across
            map_y += down
            part += cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        part *= np.float32(1 / 3)
    return total


def defocus(scene: Scene, rng: np.random.Generator, *, radius_permille: float) -> Rgb:
    """A lens out of focus: the blur disc of a seven-bladed iris, radius in thousandths of the width, linear light."""
    radius_px = max(radius_permille * scene.width / 1000, 0.6)  # a smaller disc falls onto one pixel
    half = radius_px > 4  # so wide a blur leaves nothing that half the resolution would lose
    kernel = disc_kernel(radius_px / 2 if half else radius_px, sides=7)
    kernel = (kernel + kernel[::-1, ::-1]) * np.float32(0.5)  # an odd polygon's centre of mass would move the image
    image = cv2.merge(list(scene.linear))
    if half:
        size = (max(1, scene.width // 2), max(1, scene.height // 2))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    image = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    if half:
        image = cv2.resize(image, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    return to_display(_planes(np.asarray(image, np.float32)))


def iso_noise(scene: Scene, rng: np.random.Generator, *, iso: float) -> Rgb:
    """Photon and read noise at a sensitivity, in linear light, and the camera's own chroma smoothing.

    A pixel of 12,000 electrons full well at ISO 100 has 12,000 * 100 / ISO left at saturation; read noise 3 e-
    (EMVA 1288: var = P / FWC + r^2, P the mean of the pixel's colours). Luma is the mean of three colours, so its
    variance is a third. Of chroma the camera's filters leave blotches of some 5 px and a fifth of its deviation.
    """
    electrons = 12000 * 100 / iso
    planes = scene.linear.copy()
    spread = planes[0] + planes[1]
    spread += planes[2]
    spread *= np.float32(1 / (9 * electrons))
    spread += np.float32((3.0 / electrons) ** 2 / 3)
    cv2.sqrt(spread, dst=spread)
    size = (max(1, scene.width // 2), max(1, scene.height // 2))
    blotches = np.asarray(cv2.blur(normal(rng, size[1], size[0], 3), (3, 3)), np.float32)  # a deviation of a third
    blotches -= (blotches @ np.full(3, 1 / 3, np.float32))[..., None]
    blotches *= cv2.resize(spread, size)[..., None]
    spread *= normal(rng, scene.height, scene.width)
    for plane, colour in zip(planes, cv2.split(blotches), strict=True):
        plane += spread
        plane += cv2.resize(colour, (scene.width, scene.height))
    return to_display(planes)


def lens_dirt(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """Mud specks and dust on the window, out of focus: `coverage` is the share that specks take.

    Glass 0.1 m from a lens of 2 mm focused on the street is blurred by that aperture, about 1 % of the image: specks
    are soft, and those smaller than that are faint (`_specks`). Mud of optical depth 0.3 to 2.5 lets exp(-depth) of the
    light through and gives back a third of what its surroundings send, brownish; dust, left in arcs by the wiper,
    scatters three quarters of it and so veils dark things most.
    """
    rows, columns = max(1, scene.height // 4), max(1, scene.width // 4)
    mud = np.asarray(cv2.exp(-_specks(rng, rows, columns, coverage)), np.float32)
    dust = np.asarray(cv2.exp(-_wiped_dust(rng, rows, columns) * np.float32(1.5 * coverage)), np.float32)
    size = (scene.width, scene.height)
    through = cv2.resize(mud * dust, size)
    planes = np.empty_like(scene.linear)
    for number, (brown, grey) in enumerate(((0.35, 0.76), (0.30, 0.73), (0.23, 0.68))):
        around = soften(cv2.resize(scene.linear[number], (columns, rows)), columns / 8)
        glow = around * ((1 - mud) * np.float32(brown) + mud * (1 - dust) * np.float32(grey))
        np.multiply(scene.linear[number], through, out=planes[number])
        planes[number] += cv2.resize(glow, size)
    return to_display(planes)


def _specks(rng: np.random.Generator, rows: int, columns: int, coverage: float) -> Field:
    """(rows, columns) optical depth: splashes of discs of 0.6 to 4 % of the image's side, torn, then out of focus."""
    side = (rows * columns) ** 0.5
    draws = uniform(rng, 1200, 4)
    radius = side * (0.006 + 0.036 * draws[:, 2] ** 3)
    enough = np.searchsorted(np.cumsum(np.pi * radius**2), coverage * rows * columns) + 1
    centres = uniform(rng, 9, 2)
    home = (draws[:, 3] * 14).astype(int)  # five of fourteen stay where they are
    places = draws[:, :2] * (columns, rows)
    splashed = home < len(centres)
    places[splashed] = centres[home[splashed]] * (columns, rows) + 0.13 * side * normal(rng, 1200, 2)[splashed]
    depth = 0.3 + 2.2 * uniform(rng, 1200) ** 2
    layer = np.zeros((rows, columns), np.float32)
    for (x, y), size, value in zip(places[:enough], radius[:enough], depth[:enough], strict=True):
        centre = (round(float(x) * 16), round(float(y) * 16))
        cv2.circle(layer, centre, max(8, round(float(size) * 16)), float(value), -1, cv2.LINE_8, 4)
    torn = smooth_noise(rng, 2 * rows, columns, max(side / 40, 2.0), octaves=2) * np.float32(0.012 * side)
    map_x, map_y = torn[:rows] + np.arange(columns, dtype=np.float32), torn[rows:]
    map_y = map_y + np.arange(rows, dtype=np.float32)[:, None]
    shaped = cv2.remap(layer, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.filter2D(shaped, -1, disc_kernel(max(0.010 * side, 0.6))), np.float32)


def _wiped_dust(rng: np.random.Generator, rows: int, columns: int) -> Field:
    """(rows, columns) of mean about 0.5: dust in patches, drawn out along arcs about a pivot below the image."""
    x = (np.arange(columns, dtype=np.float32) - np.float32((0.2 + 0.5 * float(uniform(rng, 1)[0])) * columns))[None]
    y = np.float32(rows * 1.25) - np.arange(rows, dtype=np.float32)[:, None]
    streaks = smooth_noise(rng, 256, 64, 5, octaves=3)
    radius = cv2.sqrt(x * x + y * y) * np.float32(160 / max(columns, rows))
    angle = np.arctan2(x, y) * np.float32(12) + np.float32(32)
    lines = cv2.remap(streaks, angle, radius, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    patches = smooth_noise(rng, rows, columns, columns / 5, octaves=2)
    return np.asarray(np.clip(0.45 + 0.3 * patches, 0, 1.5) * np.clip(1 + 0.5 * lines, 0.2, 2.5), np.float32)


def upper_quantile(noise: Field, share: float) -> float:
    """The value that `share` of the field exceeds, from a sample of its pixels."""
    step = max(1, min(noise.shape) // 128)
    return float(np.quantile(noise[::step, ::step], 1 - share))


def water_film(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """Water running over the glass: rivulets and a film that bend what lies behind, over `coverage` of the image.

    The thickness h is smooth noise drawn out along the vertical; a ray is bent by (n - 1) grad h (thin prism), here
    below 0.8 % of the width and as often one way as the other. Two rays through the lens, 0.5 % of the width apart on
    the glass, are bent differently where h is curved: there the image is blurred, elsewhere bent but sharp. On
    display values: what is averaged lies near together.
    """
    width, height = scene.width, scene.height
    rows, columns = max(2, height // 2), max(2, width // 2)
    film = cv2.resize(smooth_noise(rng, max(2, rows // 6), columns, columns / 40, octaves=2), (columns, rows))
    film = film + np.float32(0.5) * smooth_noise(rng, rows, columns, columns / 15)
    thick = np.clip((film - upper_quantile(np.asarray(film, np.float32), coverage)) / 0.6, 0, 1)
    thick *= 1 + np.float32(0.25) * smooth_noise(rng, rows, columns, columns / 50)
    thick = cv2.GaussianBlur(thick, (0, 0), max(columns / 300, 0.3))
    limit, reach = np.float32(0.008 * width), max(1, round(0.0025 * columns))
    bends = [
        np.clip(cv2.Sobel(thick, cv2.CV_32F, *axis) * np.float32(0.0026 * width), -limit, limit)
        for axis in ((1, 0), (0, 1))
    ]
    rays, four = [], cv2.cvtColor(scene.image, cv2.COLOR_RGB2RGBA)  # OpenCV moves four faster than three
    for offset in (-reach, reach):
        map_x, map_y = (cv2.resize(np.roll(bend, offset, (0, 1)), (width, height)) for bend in bends)
        map_x += np.arange(width, dtype=np.float32)
        map_y += np.arange(height, dtype=np.float32)[:, None]
        rays.append(cv2.remap(four, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
    image = cv2.cvtColor(cv2.addWeighted(rays[0], 0.5, rays[1], 0.5, 0), cv2.COLOR_RGBA2RGB)
    curved = sum(np.abs(np.roll(bend, reach, (0, 1)) - np.roll(bend, -reach, (0, 1))) for bend in bends)
    curved = cv2.blur(np.clip(curved * np.float32(260 / width), 0, 0.8), (2 * reach + 1, 2 * reach + 1))
    share = np.asarray(cv2.resize(np.asarray(curved, np.float32), (width, height)), np.float32)
    soft = cv2.GaussianBlur(cv2.resize(image, (columns, rows)), (0, 0), max(width / 1000, 0.3))
    soft = cv2.resize(soft, (width, height))
    mixed = np.asarray(cv2.blendLinear(image, soft, 1 - share, share), np.uint8)
    return lens_drops(mixed, rng, round(30 * coverage), largest=0.008)


def video_compression(scene: Scene, rng: np.random.Generator, *, qp: float) -> Rgb:
    """A bitrate too low: 8 x 8 transform blocks quantised as H.264's flat matrices do, 4:2:0, deblocked.

    Step Q = 0.625 * 2^(qp / 6) (ITU-T H.264, 8.5); a dead zone of a third kills small coefficients as inter frames
    lose them; edges between blocks are smoothed where the step across them is below Q, as the loop filter does.
    """
    step = 0.625 * 2 ** (qp / 6)
    chroma_step = 0.625 * 2 ** (min(qp, 30 + 0.55 * max(qp - 30, 0)) / 6)  # the standard's table, as a line
    luma, *colours = cv2.split(np.asarray(cv2.cvtColor(scene.image, cv2.COLOR_RGB2YCrCb), np.uint8))
    half = (max(1, scene.width // 2), max(1, scene.height // 2))
    coded = [_transform_coded(np.asarray(luma, np.uint8), step)]
    for chroma in colours:
        small = np.asarray(cv2.resize(chroma, half, interpolation=cv2.INTER_AREA), np.uint8)
        small = _transform_coded(small, chroma_step)
        coded.append(np.asarray(cv2.resize(small, (scene.width, scene.height)), np.uint8))
    return np.asarray(cv2.cvtColor(cv2.merge(coded), cv2.COLOR_YCrCb2RGB), np.uint8)


@lru_cache(1)
def _dct_matrix() -> npt.NDArray[np.float32]:
    """(8, 8) orthonormal DCT-II."""
    k, n = np.mgrid[:8, :8]
    basis = np.cos(np.pi * (2 * n + 1) * k / 16) * 0.5
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def _both_ways(plane: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """M X M^T for every 8 x 8 block X of a plane."""
    down = matrix @ plane.reshape(-1, 8, plane.shape[1])
    return np.asarray((down.reshape(-1, 8) @ matrix.T).reshape(plane.shape), np.float32)


def _transform_coded(plane: npt.NDArray[np.uint8], step: float) -> npt.NDArray[np.uint8]:
    """(H, W) after quantising its 8 x 8 DCT with one step and deblocking."""
    height, width = plane.shape
    padded = cv2.copyMakeBorder(plane, 0, -height % 8, 0, -width % 8, cv2.BORDER_REPLICATE)
    basis = _dct_matrix()
    spectrum = _both_ways(padded.astype(np.float32), basis)
    spectrum *= np.float32(1 / step)
    # prediction from the neighbours keeps the mean finer than the rest
    flat = np.rint(spectrum[::8, ::8] * 3) / 3
    spectrum += np.copysign(np.float32(1 / 3), spectrum)
    np.trunc(spectrum, out=spectrum)
    spectrum[::8, ::8] = flat
    spectrum *= np.float32(step)
    result = _both_ways(spectrum, np.ascontiguousarray(basis.T))
    for _ in range(2):  # what lies one above the other, then, turned over, side by side
        _deblock(result, step)
        result = np.asarray(cv2.transpose(result), np.float32)
    coded = cv2.addWeighted(result, 1, result, 0, 0, dtype=cv2.CV_8U)  # rounds and clips
    return np.asarray(coded[:height, :width], np.uint8)


def _deblock(plane: npt.NDArray[np.float32], step: float) -> None:
    """Smooth three rows on both sides of every eighth row where the jump is small enough to be an artefact."""
    count = len(plane) // 8 - 1
    jump = plane[8::8] - plane[7::8][:count]
    weak = (np.abs(jump) < np.float32(0.8 * step)) * jump
    for offset, share in ((0, 0.375), (1, 0.22), (2, 0.08)):
        part = np.float32(share) * weak
        plane[7 - offset :: 8][:count] += part
        plane[8 + offset :: 8] -= part


def rolling_shutter(scene: Scene, rng: np.random.Generator, *, turn_deg: float) -> Rgb:
    """Rows read one after the other while the camera turns by `turn_deg` (yaw rate x readout time): a sheared image.

    The row at height v shows a view turned by turn_deg (v / H - 1/2), so content shifts by up to f turn / 2 px, one way
    at the top and the other way at the bottom. Which way, the seed says. A curve at 20 degrees a second read in 1/50 s
    turns by 0.4 degrees. It moves what labels mark: not label-safe.
    """
    shear = np.float32(scene.view.focal_px * np.deg2rad(turn_deg) / scene.height)
    shear *= 1 if float(uniform(rng, 1)[0]) < 0.5 else -1
    middle = (scene.height - 1) / 2
    matrix = np.array([[1, shear, -shear * middle], [0, 1, 0]], np.float32)
    size = (scene.width, scene.height)
    return np.asarray(
        cv2.warpAffine(scene.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def dead_rows(scene: Scene, rng: np.random.Generator, *, share: float) -> Rgb:
    """Rows lost on their way from the sensor: `share` of all rows, in runs of up to 4, show their neighbour's tail.

    Half of them are black, half repeat the last good row with its gain halved: both occur with broken links.
    """
    result = scene.image.copy()
    count = max(1, round(share * scene.height / 2.5))
    draws = uniform(rng, count, 3)
    for start, length, kind in draws:
        first = int(start * scene.height)
        last = min(scene.height, first + 1 + int(length * 4))
        result[first:last] = 0 if kind < 0.5 or first == 0 else result[first - 1] // 2
    return result
