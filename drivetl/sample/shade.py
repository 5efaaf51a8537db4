"""From the layer-index buffer to an image: texture, shadow, haze, sky, night light, wet ground, sensor noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from drivetl.sample import textures
from drivetl.sample.camera import Array, Camera
from drivetl.sample.light import Light
from drivetl.sample.mesh import GROUND, Material
from drivetl.sample.street import Street

SKY_DEPTH_M = 1000.0
"""Depth of sky pixels in the depth map."""


@dataclass(slots=True)
class Pixels:
    """Per-pixel geometry at image size."""

    depth: Array
    """(H, W) float32 camera z in metres"""
    material: Array
    """(H, W) uint8"""
    emission: Array
    """(H, W) uint8, 255: fully emissive"""
    x: Array
    """(H, W) float32 world x in metres; also y (down) and z"""
    y: Array
    z: Array
    ground: Array
    """(H, W) uint8, 255 on ground pixels"""


def geometry(ids: Array, planes: Array, materials: Array, emission: Array, camera: Camera) -> Pixels:
    """Depth and world position of every pixel, from the plane of its layer.

    ids (H, W) layer index + 1; planes (L + 1, 3), materials (L + 1,), emission (L + 1,): by id, row 0 is the sky."""
    rows, columns = ids.shape
    u, v = np.arange(columns, dtype=np.float32) + 0.5, np.arange(rows, dtype=np.float32)[:, None] + 0.5
    a, b, c = (np.take(np.ascontiguousarray(planes[:, k]), ids) for k in range(3))
    inverse = a * u
    inverse += b * v
    inverse += c
    np.clip(inverse, 1 / SKY_DEPTH_M, 1 / 0.3, out=inverse)
    depth = np.divide(1.0, inverse, out=inverse)
    across = (u - camera.cx) / camera.focal_px
    down = ((v - camera.cy) / camera.focal_px).astype(np.float32)
    sp, cp = math.sin(camera.pitch_rad), math.cos(camera.pitch_rad)
    sy, cy = math.sin(camera.yaw_rad), math.cos(camera.yaw_rad)
    level = (cp - down * sp).astype(np.float32)
    x = depth * (np.float32(cy) * across + np.float32(sy) * level) + np.float32(camera.x_m)
    z = depth * (np.float32(-sy) * across + np.float32(cy) * level) + np.float32(camera.z_m)
    y = depth * (down * np.float32(cp) + np.float32(sp)) - np.float32(camera.height_m)
    material = np.take(materials, ids)
    depth[material == Material.SKY] = SKY_DEPTH_M
    return Pixels(depth, material, np.take(emission, ids), x, y, z, cv2.LUT(material, _ground_table()))


@lru_cache(maxsize=1)
def _ground_table() -> Array:
    table = np.zeros(256, np.uint8)
    table[list(GROUND)] = 255
    return table


def texture_factor(pixels: Pixels) -> Array:
    """(H, W) float32 around 1: surface texture, fading with distance, and some dirt on walls near the ground."""
    flat = pixels.ground > 0
    along = np.where(flat, pixels.x, pixels.x + pixels.z)
    across = np.where(flat, pixels.z, pixels.y)
    size = np.float32(textures.TILE)
    px_per_m = np.float32(textures.PX_PER_M)
    map_x, map_y = _wrapped(along * px_per_m), _wrapped(across * px_per_m)
    np.clip(map_y, 0, size - 1.01, out=map_y)
    map_y += pixels.material.astype(np.float32) * size
    tiles = cv2.remap(textures.atlas(), map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    grain = tiles.astype(np.float32)
    grain -= 128
    grain *= np.minimum(np.float32(18.0) / pixels.depth, np.float32(1.0)) * np.float32(1 / 128)
    wall = np.clip(1 + pixels.y * np.float32(0.6), 0, 1)
    wall[flat] = 0
    grain -= wall * np.float32(0.14)
    grain += 1
    return np.asarray(grain)


def _wrapped(px: Array) -> Array:
    """px modulo TILE; several times faster than np.mod."""
    turns = px * np.float32(1 / textures.TILE)
    np.floor(turns, out=turns)
    turns *= np.float32(-textures.TILE)
    turns += px
    return turns


@lru_cache(maxsize=4)
def sky_image(light: Light, camera: Camera, shift: float) -> Array:
    """(H, W, 3) uint8 sRGB sky: a gradient with clouds on a horizontal plane, moved by `shift`."""
    rows = np.arange(camera.height, dtype=np.float32)
    columns = np.arange(camera.width, dtype=np.float32)
    rise = np.clip((camera.horizon_row - rows) / camera.focal_px, 0, None)[:, None]
    share = (1 - np.exp(-rise * 3.8)).astype(np.float32)
    zenith, horizon = np.array(light.zenith_srgb, np.float32), np.array(light.horizon_srgb, np.float32)
    sky = horizon + (zenith - horizon) * share[..., None]
    sky = np.repeat(sky, camera.width, axis=1)
    far = 1 / np.maximum(rise, 0.012)
    side = (columns - camera.cx) / camera.focal_px
    size = 1024
    map_x = np.mod(side * far * 55 + 500 * shift, size - 1).astype(np.float32)
    map_y = np.mod(np.repeat(far * 90, camera.width, axis=1) + 900 * shift, size - 1).astype(np.float32)
    noise = cv2.remap(textures.cloud_tile(), map_x, map_y, cv2.INTER_LINEAR)
    noise = cv2.GaussianBlur(noise, (0, 0), 1.2)
    cover = 1 / (1 + np.exp(-(noise - (1.0 - 2.0 * light.clouds)) * 2.6))
    cover *= np.clip(rise * 9, 0, 1)
    if light.night:
        cloud = np.array(light.horizon_srgb, np.float32) * 0.8
    elif light.rain:
        cloud = zenith * 0.86
    else:
        cloud = np.array((0.97, 0.97, 0.975), np.float32)
    shade = 1 - 0.10 * np.clip(noise - 0.6, 0, 1.5)
    sky += (cloud * shade[..., None] - sky) * (cover * (0.55 if light.rain else 0.85))[..., None]
    if not light.night and not light.rain:
        sky += _sun_glow(light, camera)[..., None] * np.array((1.0, 0.93, 0.78), np.float32)
    return np.asarray(np.rint(np.clip(sky, 0, 1) * 255), np.uint8)


def _sun_glow(light: Light, camera: Camera) -> Array:
    """(H, W) float32 glow around the sun."""
    u = (np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.focal_px
    v = ((np.arange(camera.height, dtype=np.float32) - camera.cy) / camera.focal_px)[:, None]
    sun = camera.rotation @ np.array(light.sun)
    dot = (u * sun[0] + v * sun[1] + sun[2]) / np.sqrt(u * u + v * v + 1)
    return np.asarray(0.5 * np.exp((dot - 1) * 14) + 0.25 * np.exp((dot - 1) * 3), np.float32)


def night_factor(pixels: Pixels, light: Light, camera: Camera, street: Street, lamps: Array) -> Array:
    """(H, W) float32 sRGB gain at night: ambient light, street lamps, headlights of the camera car.

    A lamp lights the ground as cos / d^2; the headlight beam widens with distance and has an upper cut-off.
    """
    step = 2
    x, y, z = pixels.x[::step, ::step], pixels.y[::step, ::step], pixels.z[::step, ::step]
    side, along = street.to_street(x, z)
    energy = np.full(x.shape, 0.045 if not light.rain else 0.036, np.float32)
    if len(lamps) > 1:
        gap = float(lamps[1, 1] - lamps[0, 1])
        for sign in (-1.0, 1.0):
            row = lamps[np.sign(lamps[:, 0]) == sign]
            if len(row):
                ds = np.mod(along - row[0, 1] + gap, 2 * gap) - gap
                dx = side - (row[0, 0] - sign * 1.7)
                dy = np.maximum(y + 7.2, 0.6)
                d2 = ds * ds + dx * dx + dy * dy
                energy += 30.0 * dy / (d2 * np.sqrt(d2))
    dx, dz = x - np.float32(camera.x_m), z - np.float32(camera.z_m)
    sy, cy = math.sin(camera.yaw_rad), math.cos(camera.yaw_rad)
    ahead, across = dx * sy + dz * cy, dx * cy - dz * sy
    width = 1.3 + 0.22 * ahead
    beam = np.exp(-((across / width) ** 2)) * np.minimum((12.0 / np.maximum(ahead, 1.0)) ** 1.5, 1.0)
    beam *= 1 / (1 + np.exp(np.clip(((-y - 0.75) - 0.012 * ahead) * 3.5, -30, 30)))
    beam *= np.clip((ahead - 2.0) / 4.0, 0, 1)
    energy += 0.75 * beam.astype(np.float32)
    gain = np.power(np.clip(energy, 0, 1.6), 1 / 2.2).astype(np.float32)
    return np.asarray(cv2.resize(gain, (pixels.depth.shape[1], pixels.depth.shape[0]), interpolation=cv2.INTER_LINEAR))


def compose(base: Array, pixels: Pixels, texture: Array, gain: Array, sky: Array, light: Light) -> Array:
    """(H, W, 4) uint8 sRGB + sky fraction -> (H, W, 3) uint8: times gain (emissive: times texture), plus sky, haze."""
    through = np.exp(-np.minimum(pixels.depth * np.float32(light.haze_per_m), np.float32(4.0)))
    shines = pixels.emission > 0
    if light.night:
        np.maximum(through, np.float32(0.67), out=through, where=shines)
    # the texture is stronger on lit windows than on reflecting ones
    gain = np.where(shines, 2.6 * texture - 1.6, gain) * through
    factor = np.clip(np.rint(gain * 100), 0, 255).astype(np.uint8)
    colour = cv2.multiply(np.ascontiguousarray(base[..., :3]), cv2.merge([factor] * 3), scale=1 / 100)
    haze = np.rint((1 - through) * 255).astype(np.uint8)
    rows = int(np.flatnonzero(base[..., 3].any(axis=1))[-1]) + 1 if base[..., 3].any() else 0
    share = np.ascontiguousarray(base[:rows, :, 3])
    if rows:
        haze[:rows] = cv2.multiply(haze[:rows], 255 - share, scale=1 / 255)
    ramp = np.arange(256) / 255
    veil = cv2.merge([cv2.LUT(haze, np.rint(ramp * c * 255).astype(np.uint8)) for c in light.haze_srgb])
    colour = np.asarray(cv2.add(colour, veil))
    if rows:
        clear = cv2.multiply(sky[:rows], cv2.merge([share] * 3), scale=1 / 255)
        colour[:rows] = cv2.add(colour[:rows], clear)
    return colour


def add_reflection(image: Array, reflection: Array, pixels: Pixels, light: Light) -> Array:
    """Blend the mirrored scene into the ground, more strongly at grazing angles and in puddles."""
    scale = np.float32(textures.TILE / 24.0)
    pool = cv2.remap(textures.puddles(), _wrapped(pixels.x * scale), _wrapped(pixels.z * scale), cv2.INTER_LINEAR)
    grazing = np.clip(pixels.depth * np.float32(1 / 26.0), 0, 1)
    wetness = np.float32(0.45) + pool.astype(np.float32) * np.float32(0.9 / 255)
    weight = (np.float32(0.18) + np.float32(0.50) * grazing) * wetness
    if light.night:
        weight *= np.float32(1.15)
    alpha = np.clip(np.rint(weight * 255), 0, 235).astype(np.uint8)
    alpha[pixels.ground == 0] = 0
    alpha[pixels.material == Material.GRASS] = 0
    three = cv2.merge([alpha] * 3)
    dry = cv2.multiply(image, cv2.merge([255 - (alpha * np.float32(0.75)).astype(np.uint8)] * 3), scale=1 / 255)
    return np.asarray(cv2.add(dry, cv2.multiply(reflection, three, scale=1 / 255)))


_GLARE = np.rint(255 * (np.arange(256) / 255) ** 4).astype(np.uint8)


def bloom(image: Array, emission: Array, strength: float) -> Array:
    """Halos around emissive pixels, far stronger for lamps than for lit windows: two Gaussians at quarter size."""
    share = cv2.LUT(emission, _GLARE)
    shining = cv2.multiply(image, cv2.merge([share] * 3), scale=1 / 255)
    size = (max(1, image.shape[1] // 4), max(1, image.shape[0] // 4))
    small = cv2.resize(shining, size, interpolation=cv2.INTER_AREA)
    sigma = image.shape[1] / 1242
    near, far = (cv2.GaussianBlur(small, (0, 0), width * sigma + 0.2) for width in (1.1, 7.0))
    halo = cv2.addWeighted(near, 1.1 * strength, far, 1.9 * strength, 0)
    full = cv2.resize(halo, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.add(image, full))


@lru_cache(maxsize=8)
def _tone(town: str, night: bool) -> Array:
    """(1, 256, 3) uint8 tone curve of the town's camera: A is warm with high contrast, B cool and flat."""
    x = np.arange(256) / 255
    curve = x + (0.10 if town == "a" else 0.03) * np.sin(2 * np.pi * (x - 0.5)) / (2 * np.pi) * 2
    gains = (1.02, 1.0, 0.955) if town == "a" else (0.93, 0.985, 0.965)
    lift = 0.0 if town == "a" or night else 0.018
    channels = [np.rint(np.clip(curve * gain * (1 - lift) + lift, 0, 1) * 255) for gain in gains]
    return np.stack(channels, axis=-1).astype(np.uint8)[None]


def sensor(image: Array, town: str, light: Light, rng: np.random.Generator) -> Array:
    """Apply the town's tone curve and sensor noise (stronger at night)."""
    toned = cv2.LUT(image, _tone(town, light.night))
    rows, columns = image.shape[:2]
    bank = textures.grain()
    noise = []
    for _ in range(3):
        r, c = int(rng.integers(bank.shape[0] - rows + 1)), int(rng.integers(bank.shape[1] - columns + 1))
        noise.append(bank[r : r + rows, c : c + columns])
    level = 4.5 if light.night else 2.2
    return _add_noise(toned, noise, level)


def _add_noise(image: Array, noise: list[Array], level: float) -> Array:
    grain = cv2.merge(noise)
    return np.asarray(cv2.addWeighted(image.astype(np.int16), 1.0, grain, level / 64, 0).clip(0, 255), np.uint8)


def rain_streaks(image: Array, light: Light, rng: np.random.Generator) -> Array:
    """Add faint streaks of rain close to the camera; rain further away is part of the haze."""
    rows, columns = image.shape[:2]
    layer = np.zeros((rows, columns), np.uint8)
    scale = columns / 1242
    for _ in range(int(rng.integers(130, 240))):
        x, y = rng.uniform(0, columns), rng.uniform(-20, rows)
        length = float(rng.uniform(6, 26)) * scale
        lean = float(rng.uniform(-0.10, 0.02)) + (x / columns - 0.5) * 0.22
        a, b = (round(x * 8), round(y * 8)), (round((x + lean * length) * 8), round((y + length) * 8))
        cv2.line(layer, a, b, int(rng.integers(14, 46)), 1, cv2.LINE_AA, 3)
    soft = cv2.GaussianBlur(layer, (3, 3), 0.7)
    tint = cv2.convertScaleAbs(soft, alpha=0.55 if light.night else 0.8)
    return np.asarray(cv2.add(image, cv2.merge([tint] * 3)))
