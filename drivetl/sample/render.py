"""One frame of the sample city: image, depth and exact labels.

frame = render_frame("a", drive=0, frame=3, seed=0)
frame.image, frame.depth, frame.objects[0].box_xyxy
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from drivetl.sample import shade, shadows
from drivetl.sample.camera import Array, Camera
from drivetl.sample.canvas import NEAR_M, Canvas, Painted
from drivetl.sample.labels import SampleIgnore, SampleObject, label_frame
from drivetl.sample.light import layer_colours
from drivetl.sample.mesh import Material, Soup, mirrored
from drivetl.sample.stage import Staged, stage
from drivetl.sample.world import REACH_M, World, build_world

SUPERSAMPLING = 2


@dataclass(slots=True)
class SampleFrame:
    """One rendered frame."""

    image: Array
    """(H, W, 3) uint8 RGB"""
    depth: Array
    """(H, W) float32 camera z in metres; 1000 for sky"""
    material: Array
    """(H, W) uint8 `mesh.Material` of each pixel"""
    objects: list[SampleObject]
    """Labelled objects, far to near."""
    ignore: list[SampleIgnore]
    """DontCare regions: groups of objects too small to label."""
    camera: Camera
    attributes: dict[str, str]
    """timeofday, weather, scene"""


def render_frame(town: str, drive: int, frame: int, seed: int, scale: float = 1.0) -> SampleFrame:
    """Render a frame of a drive. The same arguments give the same bytes, in any process and order.

    `scale` resizes the image; the intrinsics are scaled exactly. Raises ConfigError for an unknown town.
    """
    world = build_world(town, drive, seed)
    camera = world.camera(frame, scale)
    rng = np.random.default_rng([seed, world.town.seed, drive, frame, 9])
    soup, staged = stage(world, camera, frame)
    shadow = shadows.scenery_shadows(world, camera)
    shadows.dim_shaded(soup, staged, shadow, camera)
    shadow = shadows.add_actor_shadows(world, camera, soup, staged, shadow)
    canvas = Canvas(soup, camera, SUPERSAMPLING)
    painted = _paint(canvas, world, staged, keep=True)
    colours = layer_colours(soup, world.light, -camera.rotation[2])
    base, ids = _downsample(canvas.ids, _colour_table(colours))
    materials, emission = _with_sky(soup.materials), _emission_table(soup)
    pixels = shade.geometry(ids, canvas.view.inverse_depth, materials, emission, camera)
    image = _shaded_image(world, camera, soup, staged, colours, base, pixels, shadow, rng)
    objects, ignore = label_frame(camera, staged, painted, canvas, ids, scale)
    attributes = {
        "timeofday": world.timeofday,
        "weather": world.weather,
        "scene": "city" if town == "b" else "residential",
    }
    return SampleFrame(image, pixels.depth, pixels.material, objects, ignore, camera, attributes)


def _painting_order(canvas: Canvas, world: World, staged: list[Staged]) -> list[tuple[float, int, tuple[int, ...]]]:
    """(distance, index in `staged` or -1 for scenery, pieces) of everything above the ground, far to near."""
    view = canvas.view
    scenery = range(world.ground_pieces, world.scenery.pieces)
    jobs: list[tuple[float, int, tuple[int, ...]]] = [
        (float(view.far_z[piece]), -1, (piece,))
        for piece in scenery
        if view.far_z[piece] > NEAR_M and view.near_z[piece] < REACH_M + 20
    ]
    for index, item in enumerate(staged):
        if max(view.far_z[list(item.pieces)]) > NEAR_M:
            parts = sorted(item.pieces, key=lambda piece: -float(view.far_z[piece] + view.near_z[piece]))
            jobs.append((item.z, index, tuple(parts)))
    return sorted(jobs, key=lambda job: (-job[0], job[1]))


def _paint(canvas: Canvas, world: World, staged: list[Staged], keep: bool) -> dict[int, Painted]:
    """Paint everything, ground first (if `keep`); returns each actor's projection by its index in `staged`."""
    if keep:
        canvas.paint(range(world.ground_pieces))
    painted: dict[int, Painted] = {}
    for _, index, pieces in _painting_order(canvas, world, staged):
        result = canvas.paint(pieces, keep=keep and index >= 0)
        if result is not None:
            painted[index] = result
    return painted


def _colour_table(colours: Array) -> Array:
    """(L + 1,) uint32 colour of each id: RGB, and 255 in the fourth byte for the sky (row 0)."""
    table = np.zeros((len(colours) + 1, 4), np.uint8)
    table[1:, :3] = colours
    table[0, 3] = 255
    return table.view(np.uint32)[:, 0]


def _with_sky(materials: Array) -> Array:
    """(L,) -> (L + 1,) uint8 material of each id; row 0 is the sky."""
    return np.concatenate([[np.uint8(Material.SKY)], materials]).astype(np.uint8)


def _emission_table(soup: Soup) -> Array:
    """(L + 1,) uint8 emission of each id; row 0 is the sky."""
    return np.concatenate([[0], np.where(soup.emission > 0.3, np.rint(255 * soup.emission), 0)]).astype(np.uint8)


def _downsample(ids: Array, colours: Array) -> tuple[Array, Array]:
    """Buffer -> (H, W, 4) uint8 mean colours, and (H, W) most frequent id of each pixel's four samples."""
    rows, columns = ids.shape
    full = np.take(colours, ids).view(np.uint8).reshape(rows, columns, 4)
    small = cv2.resize(full, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
    a, b, c, d = ids[::2, ::2], ids[::2, 1::2], ids[1::2, ::2], ids[1::2, 1::2]
    most = a.copy()
    split = np.nonzero(~((a == b) | (a == c) | (a == d)))
    b, c, d = b[split], c[split], d[split]
    most[split] = np.where((b == d) | (b == c), b, np.where(c == d, c, a[split]))
    return small, most


def _shaded_image(
    world: World,
    camera: Camera,
    soup: Soup,
    staged: list[Staged],
    colours: Array,
    base: Array,
    pixels: shade.Pixels,
    shadow: Array,
    rng: np.random.Generator,
) -> Array:
    """(H, W, 3) uint8 RGB with texture, shadows, sky, weather and sensor noise."""
    light = world.light
    texture = shade.texture_factor(pixels)
    dark = cv2.bitwise_and(shadow, pixels.ground)
    gain = texture * (1 - dark.astype(np.float32) * np.float32(1 / 255))
    if light.night:
        gain *= shade.night_factor(pixels, light, camera, world.street, world.lamps)
    sky = shade.sky_image(light, camera.at(0.0, 0.0, 0.0), 0.37 * world.drive + 0.11)
    image = shade.compose(base, pixels, texture, gain, sky, light)
    if light.rain:
        image = shade.add_reflection(image, _reflection(world, camera, soup, staged, colours, sky), pixels, light)
    if light.lights_on:
        image = shade.bloom(image, pixels.emission, 0.8 if light.night else 0.25)
    if light.rain:
        image = shade.rain_streaks(image, light, rng)
    return shade.sensor(image, world.town.name, light, rng)


def _reflection(world: World, camera: Camera, soup: Soup, staged: list[Staged], colours: Array, sky: Array) -> Array:
    """(H, W, 3) uint8: the scene mirrored in the ground, blurred like a reflection on a rough wet road."""
    canvas = Canvas(mirrored(soup), camera, 0.5)
    _paint(canvas, world, staged, keep=False)
    light = world.light
    table = np.zeros((len(colours) + 1, 3), np.uint8)
    row = min(max(int(camera.horizon_row * 0.55), 0), camera.height - 1)
    table[0] = sky[row].mean(axis=0)
    dim = (0.30 + 0.70 * (soup.emission > 0.3)) if light.night else 0.85 * np.ones(len(colours))
    table[1:] = (colours * dim[:, None]).astype(np.uint8)
    mirror: Array = table[canvas.ids]
    spread = max(1, round(camera.height / 375 * 9)) | 1
    mirror = cv2.blur(mirror, (max(1, spread // 4) | 1, spread))
    if light.night:
        mirror = cv2.addWeighted(mirror, 0.7, cv2.blur(mirror, (1, spread * 5 | 1)), 0.9, 0)
    return np.asarray(cv2.resize(mirror, (camera.width, camera.height), interpolation=cv2.INTER_LINEAR))
