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
from drivetl.conditions.lighting import sensor_noise
from drivetl.conditions.optics import (
    Field,
    Rgb,
    disc_kernel,
    smooth_noise,
    soften,
    to_display,
    uniform,
)
from drivetl.conditions.scene import Scene


def ego_blur(scene: Scene, rng: np.random.Generator, *, path_m: float) -> Rgb:
    """Blur by the car's own motion over `path_m` metres (speed x exposure time, 20 m/s x 1/100 s = 0.2 m).

    A point at depth z moves by (u - u0, v - v0) path / z during the exposure: radially, near things most. Taps lie
    at -1/2..+1/2 of the path, so the blur is centred. Averaged in linear light.
    """
    share = np.minimum(np.float32(path_m) / scene.depth, np.float32(0.5))
    flow_x, flow_y = scene.columns * share, scene.rows * share
    rows, columns = np.indices(share.shape, np.float32)
    picture = np.asarray(cv2.merge(list(scene.linear)), np.float32)
    longest = float(np.sqrt(np.max(flow_x * flow_x + flow_y * flow_y)))
    reach = 1 / 3
    while reach * longest > 0.5 and reach > 1 / 40:
        total = picture.copy()  # a pass averages three copies: 3, 9, 27 taps along the path
        for first in range(0, scene.height, 32):  # as many rows as stay in the processor's cache
            band = slice(first, first + 32)
            for offset in (-reach, reach):
                map_x, map_y = (
                    cv2.scaleAdd(f[band], offset, at[band]) for f, at in ((flow_x, columns), (flow_y, rows))
                )
                total[band] += cv2.remap(
                    picture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
            total[band] *= np.float32(1 / 3)
        picture = total
        reach /= 3
    return to_display(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def defocus(scene: Scene, rng: np.random.Generator, *, radius_permille: float) -> Rgb:
    """A lens out of focus: the blur disc of a seven-bladed iris, radius in thousandths of the width, linear light."""
    radius_px = max(radius_permille * scene.width / 1000, 0.6)  # a smaller disc falls onto one pixel
    half = radius_px > 4  # so wide a blur leaves nothing that half the resolution would lose
    kernel = disc_kernel(radius_px / 2 if half else radius_px, sides=7)
    kernel = (kernel + kernel[::-1, ::-1]) * np.float32(
        0.5
    )  # an odd polygon's centre of mass would move the picture
    picture = cv2.merge(list(scene.linear))
    if half:
        size = (max(1, scene.width // 2), max(1, scene.height // 2))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    picture = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    if half:
        picture = cv2.resize(picture, (scene.width, scene.height), interpolation=cv2.INTER_LINEAR)
    return to_display(np.asarray(cv2.split(picture), np.float32))


def iso_noise(scene: Scene, rng: np.random.Generator, *, iso: float) -> Rgb:
    """Photon and read noise at a sensitivity, in linear light, then the camera's own chroma smoothing.

    A pixel of 12,000 electrons full well at ISO 100 has 12,000 * 100 / ISO left at saturation; read noise 3 e-
    (EMVA 1288: var = P / FWC + r^2). Demosaicking spreads each colour's noise over neighbours: chroma is blotchy,
    luma fine.
    """
    electrons = 12000 * 100 / iso
    planes = scene.linear.copy()
    sensor_noise(planes, rng, full_well=electrons, read=3.0 / electrons)
    noise = planes - scene.linear
    grey = noise.mean(axis=0)
    for number in range(3):
        chroma = cv2.GaussianBlur(noise[number] - grey, (0, 0), 1.3)
        planes[number] = scene.linear[number] + grey + chroma
    return to_display(planes)


def lens_dirt(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """Dried mud and dust on the window: translucent patches over `coverage` of the picture, out of focus.

    Smooth noise of two grains above its own quantile; dirt takes light away and adds what it scatters from the
    scene around it, so its colour follows the scene's brightness and varies.
    """
    rows, columns = max(1, scene.height // 2), max(1, scene.width // 2)  # dirt is out of focus
    noise = smooth_noise(rng, rows, columns, columns / 22, octaves=3)
    noise += np.float32(0.8) * smooth_noise(rng, rows, columns, columns / 6)
    patch = np.clip((noise - upper_quantile(noise, coverage)) * 2, 0, 1)
    patch = cv2.GaussianBlur(patch, (0, 0), max(columns / 260, 0.3))
    grain = np.clip(1 + 0.25 * smooth_noise(rng, rows, columns, columns / 60), 0.5, 1.5)
    opacity, grain = (
        np.asarray(cv2.resize(part, (scene.width, scene.height)), np.float32)
        for part in (patch * np.float32(min(0.97, 0.62 + 1.2 * coverage)), grain)
    )
    planes = np.empty_like(scene.linear)
    for number, mud in enumerate((0.36, 0.31, 0.25)):
        cast = soften(scene.linear[number], scene.width / 8)
        cast *= np.float32(0.6 * mud)
        cast *= grain
        cast += np.float32(0.02 * mud)
        cast -= scene.linear[number]
        cast *= opacity
        np.add(scene.linear[number], cast, out=planes[number])
    return to_display(planes)


def upper_quantile(noise: Field, share: float) -> float:
    """The value that `share` of the field exceeds, from a sample of its pixels."""
    step = max(1, min(noise.shape) // 128)
    return float(np.quantile(noise[::step, ::step], 1 - share))


def water_film(scene: Scene, rng: np.random.Generator, *, coverage: float) -> Rgb:
    """Water running over the glass: rivulets and a film that bend and smear what lies behind, over `coverage`.

    The thickness h is smooth noise drawn out along the vertical; a ray is bent by (n - 1) grad h (thin prism), here
    below 0.4 % of the width and as often one way as the other, and blurred where the film is thick.
    """
    height, width = scene.height, scene.width
    rows, columns = max(2, height // 2), max(2, width // 2)
    runs = smooth_noise(rng, max(2, rows // 6), columns, columns / 40, octaves=2)
    film = 0.5 * smooth_noise(rng, rows, columns, columns / 15)
    film = np.asarray(film + cv2.resize(runs, (columns, rows), interpolation=cv2.INTER_CUBIC), np.float32)
    thick = cv2.GaussianBlur(
        np.clip((film - upper_quantile(film, coverage)) / 0.6, 0, 1), (0, 0), max(columns / 400, 0.3)
    )
    limit = np.float32(0.004 * width)
    bends = (
        np.clip(cv2.Sobel(thick, cv2.CV_32F, *axis) * np.float32(0.001 * width), -limit, limit)
        for axis in ((1, 0), (0, 1))
    )
    bend_x, bend_y, thick = (cv2.resize(part, (width, height)) for part in (*bends, thick))
    map_x = np.asarray(bend_x + np.arange(width, dtype=np.float32)[None], np.float32)
    map_y = np.asarray(bend_y + np.arange(height, dtype=np.float32)[:, None], np.float32)
    bent = cv2.remap(
        cv2.merge(list(scene.linear)), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    planes = np.ascontiguousarray(bent.transpose(2, 0, 1), np.float32)
    thick *= np.float32(0.85)
    for plane in planes:
        plane += thick * (soften(plane, max(width / 300, 0.3)) - plane)
        plane *= 1 - np.float32(0.07) * thick
    planes = lens_drops(planes, rng, round(30 * coverage), largest=0.008)
    return to_display(planes)


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
        small = _transform_coded(
            np.asarray(cv2.resize(chroma, half, interpolation=cv2.INTER_AREA), np.uint8), chroma_step
        )
        coded.append(np.asarray(cv2.resize(small, (scene.width, scene.height)), np.float32))
    picture = np.clip(np.stack(coded, axis=2) + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_YCrCb2RGB), np.uint8)


@lru_cache(1)
def _dct_matrix() -> npt.NDArray[np.float32]:
    """(8, 8) orthonormal DCT-II."""
    k, n = np.mgrid[:8, :8]
    basis = np.cos(np.pi * (2 * n + 1) * k / 16) * 0.5
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def _down_columns(plane: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A matrix times every run of eight values of a column; the result is transposed, ready for the other axis."""
    product = matrix @ plane.reshape(-1, 8, plane.shape[1])
    return np.ascontiguousarray(product.reshape(plane.shape).T)


def _transform_coded(plane: npt.NDArray[np.uint8], step: float) -> npt.NDArray[np.float32]:
    """(H, W) uint8 -> (H, W) float32 after quantising its 8 x 8 DCT with one step and deblocking."""
    height, width = plane.shape
    padded = np.asarray(
        cv2.copyMakeBorder(plane, 0, -height % 8, 0, -width % 8, cv2.BORDER_REPLICATE), np.float32
    )
    basis = _dct_matrix()
    spectrum = _down_columns(_down_columns(padded, basis), basis)
    spectrum *= np.float32(1 / step)
    flat = (
        np.rint(spectrum[::8, ::8] * 3) / 3
    )  # prediction from the neighbours keeps the mean finer than the rest
    sign = np.copysign(np.float32(1 / 3), spectrum)
    spectrum += sign
    np.trunc(spectrum, out=spectrum)
    spectrum[::8, ::8] = flat
    spectrum *= np.float32(step)
    result = _down_columns(_down_columns(spectrum, basis.T), basis.T)
    _deblock(result, step)
    _deblock(result.T, step)
    return result[:height, :width]


def _deblock(plane: npt.NDArray[np.float32], step: float) -> None:
    """Smooth three pixels on both sides of every eighth column where the jump is small enough to be an artefact."""
    if plane.shape[1] <= 8:
        return
    left, right = plane[:, 7:-1:8].copy(), plane[:, 8::8].copy()
    jump = right - left
    weak = (np.abs(jump) < 0.8 * step) * jump
    for offset, share in ((0, 0.375), (1, 0.22), (2, 0.08)):
        plane[:, 7 - offset : -1 : 8][:, : weak.shape[1]] += share * weak
        plane[:, 8 + offset :: 8][:, : weak.shape[1]] -= share * weak[:, : plane[:, 8 + offset :: 8].shape[1]]


def rolling_shutter(scene: Scene, rng: np.random.Generator, *, turn_deg: float) -> Rgb:
    """Rows read one after the other while the camera turns by `turn_deg` (yaw rate x readout time): a sheared picture.

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
        cv2.warpAffine(scene.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def dead_rows(scene: Scene, rng: np.random.Generator, *, share: float) -> Rgb:
    """Rows lost on their way from the sensor: `share` of all rows, in runs of up to 4, show their neighbour's tail.

    Half of them are black, half repeat the last good row with its gain halved: both occur with broken links.
    """
    result = scene.image.copy()
    count = max(1, round(share * scene.height / 2.5))
    draws = uniform(rng, count, 3)
    for place, length, kind in draws:
        first = int(place * scene.height)
        last = min(scene.height, first + 1 + int(length * 4))
        result[first:last] = 0 if kind < 0.5 or first == 0 else result[first - 1] // 2
    return result
