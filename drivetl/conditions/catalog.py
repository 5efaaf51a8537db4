"""Every condition by name: what it is, by which model, on which ladder of physical units, and whether labels hold.

The ladder is part of the protocol: a change of any number, or of an effect's pixels, is a new PROTOCOL_VERSION.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from drivetl.conditions import common_blur, common_noise, common_weather, lighting, night, road, sensor, snow, weather
from drivetl.conditions.optics import Rgb

PROTOCOL_VERSION = 4
"""Of ladders, seeds and effects together: results of different versions are not comparable.

2: night denoised as cameras do and veiled by its lamps, wet roads mirror about the contact row and leave far traffic
sharp, spray and tunnel exit without a stage, lying snow and rolling shutter added, after comparison with real pictures.
3: the light of a covered sky is even, nights and wet roads are as strong as real ones, a tunnel exit has its portal.
4: wet ground is told from grass and trees by the road's own colour, mirrors sharper and no markings, in clear air.
"""

Effect = Callable[..., Rgb]
"""effect(scene, rng, **parameters) -> (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class Condition:
    """One condition in five severities."""

    name: str
    phenomenon: str
    """What happens in the world: fog, rain, darkness, noise, ..."""
    model: str
    """How it is computed. Two conditions with one model are the same family of pictures, whatever their names."""
    family: str
    """weather | lighting | sensor | common."""
    ladder: tuple[dict[str, float], ...]
    """Parameters of severities 1..5, in physical units."""
    unit: tuple[str, str]
    """The ladder's parameter that makes an axis, and its unit."""
    label_safe: bool
    """Content stays within 0.5 px of where it was."""
    effect: Effect = field(repr=False, compare=False)
    version: int = PROTOCOL_VERSION
    published: str = ""
    """Its name in the published benchmark (Michaelis et al. 2019), where it is one of its 19."""
    shift_note: str = ""
    """By how much content moves at severities 1..5, where it does."""

    @property
    def axis(self) -> tuple[float, ...]:
        """The value of the axis parameter at severities 1..5."""
        return tuple(step[self.unit[0]] for step in self.ladder)


def _ladder(**steps: tuple[float, float, float, float, float]) -> tuple[dict[str, float], ...]:
    return tuple({name: float(values[level]) for name, values in steps.items()} for level in range(5))


def _drive() -> list[Condition]:
    """Physics: weather, lighting, sensor."""

    def row(
        name: str,
        phenomenon: str,
        model: str,
        family: str,
        effect: Effect,
        unit: str,
        shift: str = "",
        **steps: tuple[float, float, float, float, float],
    ) -> Condition:
        return Condition(
            name,
            phenomenon,
            model,
            family,
            _ladder(**steps),
            (next(iter(steps)), unit),
            not shift,
            effect,
            shift_note=shift,
        )

    return [
        row("fog", "fog", "koschmieder_depth", "weather", weather.fog, "m", visibility_m=(600, 300, 150, 75, 40)),
        row(
            "rain",
            "rain",
            "marshall_palmer_veil_streaks_drops",
            "weather",
            weather.rain,
            "mm/h",
            rate_mm_h=(2, 10, 25, 50, 100),
        ),
        row(
            "wet_road",
            "wet road",
            "fresnel_mirror",
            "weather",
            road.wet_road,
            "share",
            wetness=(0.2, 0.4, 0.6, 0.8, 1.0),
        ),
        row(
            "snowfall",
            "snow",
            "koschmieder_flakes",
            "weather",
            weather.snowfall,
            "m",
            visibility_m=(1500, 700, 350, 180, 90),
        ),
        row(
            "snow_cover",
            "snow",
            "albedo_on_ground_plan",
            "weather",
            snow.snow_cover,
            "share",
            coverage=(0.2, 0.4, 0.6, 0.8, 1.0),
        ),
        row(
            "spray",
            "spray",
            "turbulent_plume",
            "weather",
            weather.spray,
            "optical depth",
            optical_depth=(0.4, 0.8, 1.4, 2.2, 3.2),
        ),
        row(
            "night",
            "darkness",
            "headlights_linear_noise",
            "lighting",
            night.night,
            "of daylight",
            ambient=(0.16, 0.10, 0.06, 0.04, 0.026),
        ),
        row("dusk", "darkness", "twilight_decades", "lighting", night.dusk, "deg", sun_deg=(4, 1, -2, -4, -6)),
        row("low_sun", "glare", "cie_veiling_glare", "lighting", lighting.low_sun, "k", glare=(0.6, 1.2, 2.4, 4, 7)),
        row(
            "hard_shadows",
            "shadows",
            "ground_projected_shadow",
            "lighting",
            lighting.hard_shadows,
            "sun / sky",
            sun_to_sky=(0.6, 1.2, 2.4, 4.5, 8),
        ),
        row(
            "tunnel_exit",
            "tunnel",
            "portal_dynamic_range",
            "lighting",
            lighting.tunnel_exit,
            "stops",
            stops=(1, 2, 3, 4, 5),
        ),
        row(
            "overexposure",
            "exposure",
            "linear_clip",
            "sensor",
            lighting.overexposure,
            "stops",
            stops=(0.7, 1.3, 2, 2.7, 3.5),
        ),
        row(
            "underexposure",
            "exposure",
            "linear_read_noise",
            "sensor",
            lighting.underexposure,
            "stops",
            stops=(1, 2, 3, 4, 5),
        ),
        row(
            "ego_blur",
            "motion blur",
            "depth_radial_flow",
            "sensor",
            sensor.ego_blur,
            "m",
            path_m=(0.07, 0.14, 0.28, 0.5, 0.9),
        ),
        row(
            "defocus",
            "defocus",
            "linear_iris_disc",
            "sensor",
            sensor.defocus,
            "permille of width",
            radius_permille=(0.8, 1.6, 2.6, 4, 6),
        ),
        row(
            "iso_noise",
            "noise",
            "photon_read_linear",
            "sensor",
            sensor.iso_noise,
            "ISO",
            iso=(800, 2500, 6400, 16000, 40000),
        ),
        row(
            "lens_dirt",
            "dirt",
            "scattering_patches",
            "sensor",
            sensor.lens_dirt,
            "share",
            coverage=(0.02, 0.05, 0.10, 0.18, 0.28),
        ),
        row(
            "water_film",
            "water on lens",
            "thin_prism_film",
            "sensor",
            sensor.water_film,
            "share",
            coverage=(0.08, 0.18, 0.32, 0.5, 0.7),
        ),
        row(
            "video_compression",
            "compression",
            "h264_transform",
            "sensor",
            sensor.video_compression,
            "QP",
            qp=(30, 34, 38, 42, 46),
        ),
        row(
            "rolling_shutter",
            "rolling shutter",
            "row_shear",
            "sensor",
            sensor.rolling_shutter,
            "deg",
            "0.3, 0.6, 1.3, 2.5, 5.0 px at a focal length of 721 px, at the top one way, at the bottom the other",
            turn_deg=(0.05, 0.1, 0.2, 0.4, 0.8),
        ),
        row(
            "dead_rows",
            "row loss",
            "row_dropout",
            "sensor",
            sensor.dead_rows,
            "share",
            share=(0.01, 0.03, 0.07, 0.14, 0.25),
        ),
    ]


def _common() -> list[Condition]:
    """The published 15 and the 4 meant for development, with the published severities."""

    def row(
        name: str,
        phenomenon: str,
        model: str,
        effect: Effect,
        unit: str,
        shift: str = "",
        published: str = "",
        **steps: tuple[float, float, float, float, float],
    ) -> Condition:
        return Condition(
            name,
            phenomenon,
            model,
            "common",
            _ladder(**steps),
            (next(iter(steps)), unit),
            not shift,
            effect,
            published=published or name,
            shift_note=shift,
        )

    noise, blur, air = common_noise, common_blur, common_weather
    motion_px, motion_sigma = (10, 15, 15, 15, 20), (3, 5, 8, 12, 15)
    zoom_largest, zoom_step = (1.11, 1.16, 1.21, 1.26, 1.31), (0.01, 0.01, 0.02, 0.02, 0.03)
    elastic_alpha = (12.5, 16.25, 21.25, 25, 30)
    return [
        row(
            "gaussian_noise",
            "noise",
            "additive_gaussian",
            noise.gaussian_noise,
            "of range",
            std=(0.08, 0.12, 0.18, 0.26, 0.38),
        ),
        row("shot_noise", "noise", "poisson_display", noise.shot_noise, "photons", photons=(60, 25, 12, 5, 3)),
        row(
            "impulse_noise", "noise", "salt_pepper", noise.impulse_noise, "share", amount=(0.03, 0.06, 0.09, 0.17, 0.27)
        ),
        row(
            "defocus_blur",
            "defocus",
            "display_disc",
            blur.defocus_blur,
            "px",
            radius_px=(3, 4, 6, 8, 10),
            soften_px=(0.1, 0.5, 0.5, 0.5, 0.5),
        ),
        row(
            "glass_blur",
            "frosted glass",
            "local_overwriting",
            blur.glass_blur,
            "px",
            "1.4, 1.0, 3.1, 2.5, 2.8 px down and right",
            reach_px=(1, 2, 2, 3, 4),
            sigma_px=(0.7, 0.9, 1, 1.1, 1.5),
            rounds=(2, 1, 3, 2, 2),
        ),
        row(
            "motion_blur",
            "motion blur",
            "half_gaussian_line",
            blur.motion_blur,
            "px",
            "2.1, 3.7, 6.1, 9.0, 11.4 px along the motion",
            sigma_px=motion_sigma,
            radius_px=motion_px,
        ),
        row(
            "zoom_blur",
            "motion blur",
            "outward_zoom_mean",
            blur.zoom_blur,
            "zoom",
            "5, 8, 10, 12, 15 % of the distance from the centre, outwards",
            largest=zoom_largest,
            step=zoom_step,
        ),
        row(
            "snow",
            "snow",
            "thresholded_noise",
            air.snow,
            "share kept",
            keep=(0.8, 0.7, 0.7, 0.65, 0.55),
            mean=(0.1, 0.2, 0.55, 0.55, 0.55),
            std=(0.3, 0.3, 0.3, 0.3, 0.3),
            zoom=(3, 2, 4, 4.5, 2.5),
            threshold=(0.5, 0.5, 0.9, 0.85, 0.85),
            radius_px=(10, 12, 12, 12, 12),
            sigma_px=(4, 4, 8, 8, 12),
        ),
        row(
            "frost",
            "frost",
            "texture_blend",
            air.frost,
            "of texture",
            amount=(0.4, 0.6, 0.7, 0.7, 0.75),
            keep=(1, 0.8, 0.7, 0.65, 0.6),
        ),
        row(
            "plasma_fog",
            "fog",
            "plasma_additive",
            air.plasma_fog,
            "of range",
            published="fog",
            amount=(1.5, 2, 2.5, 2.5, 3),
            decay=(2, 2, 1.7, 1.5, 1.4),
        ),
        row(
            "brightness", "exposure", "hsv_value_offset", noise.brightness, "of range", offset=(0.1, 0.2, 0.3, 0.4, 0.5)
        ),
        row("contrast", "low contrast", "linear_about_mean", noise.contrast, "gain", gain=(0.4, 0.3, 0.2, 0.1, 0.05)),
        row(
            "elastic_transform",
            "deformation",
            "elastic_noise",
            noise.elastic_transform,
            "alpha",
            "up to 3.7, 4.9, 6.3, 7.4, 8.9 px, differently everywhere",
            alpha=elastic_alpha,
        ),
        row("pixelate", "low resolution", "box_downscale", noise.pixelate, "scale", scale=(0.6, 0.5, 0.4, 0.3, 0.25)),
        row("jpeg_compression", "compression", "jpeg", noise.jpeg_compression, "quality", quality=(25, 18, 15, 10, 7)),
        row(
            "speckle_noise",
            "noise",
            "multiplicative_gaussian",
            noise.speckle_noise,
            "of value",
            std=(0.15, 0.2, 0.35, 0.45, 0.6),
        ),
        row("gaussian_blur", "defocus", "gaussian_blur", blur.gaussian_blur, "px", sigma_px=(1, 2, 3, 4, 6)),
        row(
            "spatter",
            "dirt",
            "thresholded_splashes",
            air.spatter,
            "threshold",
            threshold=(0.69, 0.68, 0.68, 0.65, 0.65),
            mean=(0.65, 0.65, 0.65, 0.65, 0.67),
            std=(0.3, 0.3, 0.3, 0.3, 0.4),
            sigma_px=(4, 3, 2, 1, 1),
            strength=(0.6, 0.6, 0.5, 1.5, 1.5),
            mud=(0, 0, 0, 1, 1),
        ),
        row(
            "saturate",
            "colour",
            "hsv_saturation",
            noise.saturate,
            "gain",
            gain=(0.3, 0.1, 2, 5, 20),
            offset=(0, 0, 0, 0.1, 0.2),
        ),
        row(
            "motion_blur_aligned",
            "motion blur",
            "centred_gaussian_line",
            blur.motion_blur_aligned,
            "px",
            published="motion_blur",
            sigma_px=motion_sigma,
            radius_px=motion_px,
        ),
        row(
            "glass_blur_aligned",
            "frosted glass",
            "local_overwriting_mirrored",
            blur.glass_blur_aligned,
            "px",
            published="glass_blur",
            reach_px=(1, 2, 2, 3, 4),
            sigma_px=(0.7, 0.9, 1, 1.1, 1.5),
            rounds=(2, 1, 3, 2, 2),
        ),
        row(
            "zoom_blur_aligned",
            "motion blur",
            "centred_zoom_mean",
            blur.zoom_blur_aligned,
            "zoom",
            published="zoom_blur",
            largest=zoom_largest,
            step=zoom_step,
        ),
        row(
            "elastic_aligned",
            "deformation",
            "elastic_noise_highpass",
            noise.elastic_aligned,
            "alpha",
            published="elastic_transform",
            alpha=elastic_alpha,
        ),
    ]


CATALOG: Mapping[str, Condition] = MappingProxyType({item.name: item for item in _drive() + _common()})
"""name -> Condition."""

_PUBLISHED_15 = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "plasma_fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
_ALIGNED = {item.published: item.name for item in CATALOG.values() if item.name.endswith("_aligned")}

SETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "drive": tuple(item.name for item in CATALOG.values() if item.family != "common" and item.label_safe),
        "common": _PUBLISHED_15,
        "common_aligned": tuple(_ALIGNED.get(name, name) for name in _PUBLISHED_15),
        "all": tuple(item.name for item in CATALOG.values() if item.label_safe),
    }
)
"""Named sets. `all` is every condition that keeps labels true; ask for the others by name (the published ones
also by `common`)."""
