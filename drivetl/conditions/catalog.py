"""Every condition by name: what it is, by which model, on which ladder of physical units, and whether labels hold.

The ladder is part of the protocol: a change of any number, or of an effect's pixels, is a new PROTOCOL_VERSION.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from drivetl.conditions import common_blur as blur
from drivetl.conditions import common_noise as noise
from drivetl.conditions import common_weather as air
from drivetl.conditions import lighting, night, road, sensor, snow, weather
from drivetl.conditions.optics import Rgb
from drivetl.conditions.vocabulary import SEVERITIES, Family, Phenomenon

PROTOCOL_VERSION = 5
"""Of ladders, seeds and effects together: results of different versions are not comparable.

2: night denoised as cameras do and veiled by its lamps, wet roads mirror about the contact row and leave far traffic
sharp, spray and tunnel exit without a stage, lying snow and rolling shutter added, after comparison with real images.
3: the light of a covered sky is even, nights and wet roads are as strong as real ones, a tunnel exit has its portal.
4: wet ground is distinguished from grass and trees by the road's own colour; it mirrors more sharply and without
markings, in clear air.
5: night goes from a lit street to an unlit road, with street lamps, lit windows and the lamps of vehicles whose boxes
are known; dusk lights these too; rain mirrors as its film of water closes.
"""

Effect = Callable[..., Rgb]
"""effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB; a plain function, whose name is the condition's."""


@dataclass(frozen=True)
class Condition:
    """One condition in five severities."""

    name: str
    phenomenon: Phenomenon
    model: str
    """How it is computed. Two conditions with the same model make the same kind of images, whatever their names."""
    family: Family
    ladder: tuple[dict[str, float], ...]
    """Parameters of severities 1..5, in physical units."""
    unit: tuple[str, str]
    """The ladder's parameter that makes an axis, and its unit."""
    label_safe: bool
    """Content stays within 0.5 px of where it was."""
    effect: Effect = field(repr=False, compare=False)
    published: str = ""
    """Its name in the published benchmark (Michaelis et al. 2019), where it is one of its 19."""
    shift_note: str = ""
    """By how much content moves at severities 1..5, where it does."""

    def __post_init__(self) -> None:
        assert isinstance(self.phenomenon, Phenomenon) and isinstance(self.family, Family)
        assert len(self.ladder) == len(SEVERITIES)

    @property
    def axis(self) -> tuple[float, ...]:
        """The value of the axis parameter at severities 1..5."""
        return tuple(step[self.unit[0]] for step in self.ladder)


def _row(
    family: Family, effect: Effect, phenomenon: Phenomenon, model: str, unit: str, **steps: tuple[float, ...]
) -> Condition:
    """A condition that is called as its effect. steps: parameter -> its values at severities 1..5, the axis first."""
    name = str(effect.__name__)
    published = _PUBLISHED_AS.get(name, name) if family == Family.COMMON else ""
    shift, axis = _SHIFTS.get(name, ""), (next(iter(steps)), unit)
    return Condition(
        name, phenomenon, model, family, _ladder(steps), axis, not shift, effect, published=published, shift_note=shift
    )


def _ladder(steps: Mapping[str, tuple[float, ...]]) -> tuple[dict[str, float], ...]:
    rows = zip(*steps.values(), strict=True)
    return tuple({name: float(value) for name, value in zip(steps, row, strict=True)} for row in rows)


_PUBLISHED_AS = {
    "plasma_fog": "fog",
    "motion_blur_aligned": "motion_blur",
    "glass_blur_aligned": "glass_blur",
    "zoom_blur_aligned": "zoom_blur",
    "elastic_aligned": "elastic_transform",
}
"""Common conditions whose published name differs."""

_SHIFTS = {
    "rolling_shutter": (
        "0.3, 0.6, 1.3, 2.5, 5.0 px at a focal length of 721 px, at the top one way, at the bottom the other"
    ),
    "glass_blur": "1.4, 1.0, 3.1, 2.5, 2.8 px down and right",
    "motion_blur": "2.1, 3.7, 6.1, 9.0, 11.4 px along the motion",
    "zoom_blur": "5, 8, 10, 12, 15 % of the distance from the centre, outwards",
    "elastic_transform": "up to 3.7, 4.9, 6.3, 7.4, 8.9 px, differently everywhere",
}
"""Conditions that move content, and by how much at severities 1..5: their labels do not hold."""

P = Phenomenon
_weather, _lighting = partial(_row, Family.WEATHER), partial(_row, Family.LIGHTING)
_sensor, _common = partial(_row, Family.SENSOR), partial(_row, Family.COMMON)

_PHYSICAL = [
    _weather(weather.fog, P.FOG, "koschmieder_depth", "m", visibility_m=(600, 300, 150, 75, 40)),
    _weather(weather.rain, P.RAIN, "marshall_palmer_veil_streaks_drops", "mm/h", rate_mm_h=(2, 10, 25, 50, 100)),
    _weather(road.wet_road, P.WET_ROAD, "fresnel_mirror", "share", wetness=(0.2, 0.4, 0.6, 0.8, 1.0)),
    _weather(weather.snowfall, P.SNOW, "koschmieder_flakes", "m", visibility_m=(1500, 700, 350, 180, 90)),
    _weather(snow.snow_cover, P.SNOW, "albedo_on_ground_plan", "share", coverage=(0.2, 0.4, 0.6, 0.8, 1.0)),
    _weather(weather.spray, P.SPRAY, "turbulent_plume", "optical depth", optical_depth=(0.4, 0.8, 1.4, 2.2, 3.2)),
    _lighting(
        *(night.night, P.DARKNESS, "headlights_linear_noise", "lx"),
        illuminance_lx=(30, 12, 5, 1.5, 0.15),
        lamps_per_km=(40, 25, 15, 6, 0),
    ),
    _lighting(night.dusk, P.DARKNESS, "twilight_decades", "deg", sun_deg=(4, 1, -2, -4, -6)),
    _lighting(lighting.low_sun, P.GLARE, "cie_veiling_glare", "k", glare=(0.6, 1.2, 2.4, 4, 7)),
    _lighting(
        lighting.hard_shadows, P.SHADOWS, "ground_projected_shadow", "sun / sky", sun_to_sky=(0.6, 1.2, 2.4, 4.5, 8)
    ),
    _lighting(lighting.tunnel_exit, P.TUNNEL, "portal_dynamic_range", "stops", stops=(1, 2, 3, 4, 5)),
    _sensor(lighting.overexposure, P.EXPOSURE, "linear_clip", "stops", stops=(0.7, 1.3, 2, 2.7, 3.5)),
    _sensor(lighting.underexposure, P.EXPOSURE, "linear_read_noise", "stops", stops=(1, 2, 3, 4, 5)),
    _sensor(sensor.ego_blur, P.MOTION_BLUR, "depth_radial_flow", "m", path_m=(0.07, 0.14, 0.28, 0.5, 0.9)),
    _sensor(sensor.defocus, P.DEFOCUS, "linear_iris_disc", "permille of width", radius_permille=(0.8, 1.6, 2.6, 4, 6)),
    _sensor(sensor.iso_noise, P.NOISE, "photon_read_linear", "ISO", iso=(800, 2500, 6400, 16000, 40000)),
    _sensor(sensor.lens_dirt, P.DIRT, "scattering_patches", "share", coverage=(0.02, 0.05, 0.10, 0.18, 0.28)),
    _sensor(sensor.water_film, P.WATER_ON_LENS, "thin_prism_film", "share", coverage=(0.08, 0.18, 0.32, 0.5, 0.7)),
    _sensor(sensor.video_compression, P.COMPRESSION, "h264_transform", "QP", qp=(30, 34, 38, 42, 46)),
    _sensor(sensor.rolling_shutter, P.ROLLING_SHUTTER, "row_shear", "deg", turn_deg=(0.05, 0.1, 0.2, 0.4, 0.8)),
    _sensor(sensor.dead_rows, P.ROW_LOSS, "row_dropout", "share", share=(0.01, 0.03, 0.07, 0.14, 0.25)),
]
"""Physics: weather, lighting, sensor."""

_MOTION = {"sigma_px": (3, 5, 8, 12, 15), "radius_px": (10, 15, 15, 15, 20)}
_GLASS = {"reach_px": (1, 2, 2, 3, 4), "sigma_px": (0.7, 0.9, 1, 1.1, 1.5), "rounds": (2, 1, 3, 2, 2)}
_ZOOM = {"largest": (1.11, 1.16, 1.21, 1.26, 1.31), "step": (0.01, 0.01, 0.02, 0.02, 0.03)}
_ELASTIC = (12.5, 16.25, 21.25, 25, 30)
_DISC = {"radius_px": (3, 4, 6, 8, 10), "soften_px": (0.1, 0.5, 0.5, 0.5, 0.5)}
_SNOW = {
    "keep": (0.8, 0.7, 0.7, 0.65, 0.55),
    "mean": (0.1, 0.2, 0.55, 0.55, 0.55),
    "std": (0.3, 0.3, 0.3, 0.3, 0.3),
    "zoom": (3, 2, 4, 4.5, 2.5),
    "threshold": (0.5, 0.5, 0.9, 0.85, 0.85),
    "radius_px": (10, 12, 12, 12, 12),
    "sigma_px": (4, 4, 8, 8, 12),
}
_FROST = {"amount": (0.4, 0.6, 0.7, 0.7, 0.75), "keep": (1, 0.8, 0.7, 0.65, 0.6)}
_PLASMA = {"amount": (1.5, 2, 2.5, 2.5, 3), "decay": (2, 2, 1.7, 1.5, 1.4)}
_SPATTER = {
    "threshold": (0.69, 0.68, 0.68, 0.65, 0.65),
    "mean": (0.65, 0.65, 0.65, 0.65, 0.67),
    "std": (0.3, 0.3, 0.3, 0.3, 0.4),
    "sigma_px": (4, 3, 2, 1, 1),
    "strength": (0.6, 0.6, 0.5, 1.5, 1.5),
    "mud": (0, 0, 0, 1, 1),
}
_SATURATION = {"gain": (0.3, 0.1, 2, 5, 20), "offset": (0, 0, 0, 0.1, 0.2)}

_PUBLISHED_15 = [
    _common(noise.gaussian_noise, P.NOISE, "additive_gaussian", "of range", std=(0.08, 0.12, 0.18, 0.26, 0.38)),
    _common(noise.shot_noise, P.NOISE, "poisson_display", "photons", photons=(60, 25, 12, 5, 3)),
    _common(noise.impulse_noise, P.NOISE, "salt_pepper", "share", amount=(0.03, 0.06, 0.09, 0.17, 0.27)),
    _common(blur.defocus_blur, P.DEFOCUS, "display_disc", "px", **_DISC),
    _common(blur.glass_blur, P.FROSTED_GLASS, "local_overwriting", "px", **_GLASS),
    _common(blur.motion_blur, P.MOTION_BLUR, "half_gaussian_line", "px", **_MOTION),
    _common(blur.zoom_blur, P.MOTION_BLUR, "outward_zoom_mean", "zoom", **_ZOOM),
    _common(air.snow, P.SNOW, "thresholded_noise", "share kept", **_SNOW),
    _common(air.frost, P.FROST, "texture_blend", "of texture", **_FROST),
    _common(air.plasma_fog, P.FOG, "plasma_additive", "of range", **_PLASMA),
    _common(noise.brightness, P.EXPOSURE, "hsv_value_offset", "of range", offset=(0.1, 0.2, 0.3, 0.4, 0.5)),
    _common(noise.contrast, P.LOW_CONTRAST, "linear_about_mean", "gain", gain=(0.4, 0.3, 0.2, 0.1, 0.05)),
    _common(noise.elastic_transform, P.DEFORMATION, "elastic_noise", "alpha", alpha=_ELASTIC),
    _common(noise.pixelate, P.LOW_RESOLUTION, "box_downscale", "scale", scale=(0.6, 0.5, 0.4, 0.3, 0.25)),
    _common(noise.jpeg_compression, P.COMPRESSION, "jpeg", "quality", quality=(25, 18, 15, 10, 7)),
]
"""The published corruptions, with the published severities."""

_PUBLISHED_EXTRA = [
    _common(noise.speckle_noise, P.NOISE, "multiplicative_gaussian", "of value", std=(0.15, 0.2, 0.35, 0.45, 0.6)),
    _common(blur.gaussian_blur, P.DEFOCUS, "gaussian_blur", "px", sigma_px=(1, 2, 3, 4, 6)),
    _common(air.spatter, P.DIRT, "thresholded_splashes", "threshold", **_SPATTER),
    _common(noise.saturate, P.COLOUR, "hsv_saturation", "gain", **_SATURATION),
]
"""The four that were published for development."""

_ALIGNED = [
    _common(blur.motion_blur_aligned, P.MOTION_BLUR, "centred_gaussian_line", "px", **_MOTION),
    _common(blur.glass_blur_aligned, P.FROSTED_GLASS, "local_overwriting_mirrored", "px", **_GLASS),
    _common(blur.zoom_blur_aligned, P.MOTION_BLUR, "centred_zoom_mean", "zoom", **_ZOOM),
    _common(noise.elastic_aligned, P.DEFORMATION, "elastic_noise_highpass", "alpha", alpha=_ELASTIC),
]
"""Those of the 15 that move content, with the content held in place."""

CATALOG: Mapping[str, Condition] = MappingProxyType(
    {item.name: item for item in (*_PHYSICAL, *_PUBLISHED_15, *_PUBLISHED_EXTRA, *_ALIGNED)}
)
"""name -> Condition."""

_COUNTED = (
    *("fog", "rain", "wet_road", "snowfall", "snow_cover", "spray"),
    *("night", "dusk", "low_sun", "hard_shadows", "tunnel_exit"),
    *("overexposure", "underexposure", "ego_blur", "defocus", "iso_noise", "lens_dirt", "water_film"),
    *("video_compression", "dead_rows"),
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "snow", "frost", "plasma_fog"),
    *("brightness", "contrast", "pixelate", "jpeg_compression"),
    *("speckle_noise", "gaussian_blur", "spatter", "saturate"),
    *("motion_blur_aligned", "glass_blur_aligned", "zoom_blur_aligned", "elastic_aligned"),
)
"""The conditions that `all`, `drive`, `held_out` and so the headline are about, fixed for a PROTOCOL_VERSION.

A condition that is added to the catalogue is measured where it is named, and changes no result of this version. It is
listed here (if it keeps labels true) together with the next PROTOCOL_VERSION.
"""

_HELD_IN_PLACE = {item.published: item.name for item in _ALIGNED}

SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "drive": tuple(name for name in _COUNTED if CATALOG[name].family != Family.COMMON),
        "common": tuple(item.name for item in _PUBLISHED_15),
        "common_aligned": tuple(_HELD_IN_PLACE.get(item.name, item.name) for item in _PUBLISHED_15),
        "all": _COUNTED,
    }
)
"""Named sets. `all` is every condition that keeps labels true; ask for the others by name (the published ones
also by `common`)."""
