"""What a pipeline that albumentations saved (`A.save`) shows a model, as an augmentation manifest.

Models of the catalogue and of our own transforms have their names, so a condition of the same model counts as seen.
What a transform takes from other images (`FDA`, `HistogramMatching`) or from the user's code (`Lambda`) is unknown, and
so is every transform that is not listed here: no condition is held out from it by assertion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from drivetl.conditions.vocabulary import Phenomenon
from drivetl.data.augment import MANIFEST_VERSION
from drivetl.errors import DataError

CLASS_KEY = "__class_fullname__"
UNKNOWN = "unknown"

Values = Mapping[str, Any]
Ranges = dict[str, list[float]]
Row = tuple[Phenomenon, str, Callable[[Values], Ranges]]
"""(phenomenon, model, its ranges from the values that were saved)."""

P = Phenomenon


def _any(values: Values) -> Ranges:
    """Every strength counts as seen."""
    return {}


def _pair(key: str, parameter: str, scale: float = 1.0, offset: float = 0.0) -> Callable[[Values], Ranges]:
    """The saved pair `key` as the range of a parameter, scaled; every strength where it is not a pair of numbers."""

    def ranges(values: Values) -> Ranges:
        pair = values.get(key)
        if not isinstance(pair, list) or len(pair) != 2 or not all(type(value) in (int, float) for value in pair):
            return {}
        return {parameter: sorted(scale * value + offset for value in pair)}

    return ranges


def _of(*phenomena: Phenomenon, model: str = "") -> tuple[Row, ...]:
    """Phenomena by albumentations' own model, or by one of the catalogue's."""
    return tuple((phenomenon, model, _any) for phenomenon in phenomena)


_FRAMING, _FLIP, _DEFORMED = _of(P.FRAMING), _of(P.MIRRORING, P.FRAMING), _of(P.DEFORMATION)
_DROPOUT, _TONE = _of(P.OCCLUSION, P.ROW_LOSS), _of(P.EXPOSURE, P.LOW_CONTRAST, P.COLOUR)
_COLOUR, _BLUR, _SHARPER = _of(P.COLOUR), _of(P.DEFOCUS), _of(P.DEFOCUS, P.COMPRESSION)
_AFFINE = _of(P.FRAMING, P.SHEAR)

ROWS: Mapping[str, tuple[Row, ...]] = {
    **dict.fromkeys(
        (
            *("NoOp", "Normalize", "ToFloat", "FromFloat", "ToRGB", "ToTensorV2"),
            *("Resize", "LongestMaxSize", "SmallestMaxSize"),
        ),
        (),
    ),
    "HorizontalFlip": _of(P.MIRRORING, model="flip"),
    **dict.fromkeys(("VerticalFlip", "Transpose", "D4", "SquareSymmetry", "RandomRotate90"), _FLIP),
    **dict.fromkeys(
        (
            *("AtLeastOneBBoxRandomCrop", "AtLeastOneBboxRandomCrop", "BBoxSafeRandomCrop", "CenterCrop", "Crop"),
            *("CropAndPad", "CropNonEmptyMaskIfExists", "RandomCrop", "RandomCropFromBorders", "RandomCropNearBBox"),
            *("RandomResizedCrop", "RandomSizedBBoxSafeCrop", "RandomSizedCrop", "Pad", "PadIfNeeded", "RandomScale"),
            *("Rotate", "SafeRotate", "ShiftScaleRotate", "Mosaic"),
        ),
        _FRAMING,
    ),
    **dict.fromkeys(("Affine", "Perspective"), _AFFINE),
    **dict.fromkeys(
        ("GridDistortion", "OpticalDistortion", "PiecewiseAffine", "ThinPlateSpline", "GridElasticDeform"), _DEFORMED
    ),
    "ElasticTransform": _of(P.DEFORMATION, model="elastic_noise"),
    "Morphological": _of(P.DEFORMATION, P.DEFOCUS),
    "RandomGridShuffle": _of(P.FRAMING, P.OCCLUSION),
    **dict.fromkeys(
        (
            *("CoarseDropout", "ConstrainedCoarseDropout", "Cutout", "Erasing", "GridDropout", "MaskDropout"),
            *("OverlayElements", "TextImage", "XYMasking", "TimeMasking", "FrequencyMasking"),
        ),
        _DROPOUT,
    ),
    "PixelDropout": (*_DROPOUT, *_of(P.NOISE, model="salt_pepper")),
    **dict.fromkeys(("CLAHE", "AutoContrast", "Equalize", "RandomToneCurve", "Solarize", "InvertImg"), _TONE),
    **dict.fromkeys(("PlasmaBrightnessContrast", "Illumination"), (*_TONE, *_of(P.SHADOWS, P.DARKNESS))),
    **dict.fromkeys(("RandomShadow", "PlasmaShadow"), _of(P.SHADOWS)),
    **dict.fromkeys(
        ("ChannelDropout", "ChannelShuffle", "FancyPCA", "HEStain", "Posterize", "RGBShift", "ToSepia"), _TONE
    ),
    "ToGray": _of(P.COLOUR, model="grey"),
    "HueSaturationValue": (
        *_of(P.COLOUR, model="hsv_saturation"),
        *_of(P.EXPOSURE, model="hsv_value_offset"),
        *_COLOUR,
    ),
    "RandomBrightnessContrast": (
        (P.EXPOSURE, "display_offset", _pair("brightness_limit", "offset")),
        (P.LOW_CONTRAST, "linear_about_mean", _pair("contrast_limit", "gain", offset=1)),
    ),
    "RandomGamma": ((P.EXPOSURE, "display_gamma", _pair("gamma_limit", "exponent", scale=0.01)),),
    "ColorJitter": (
        *_of(P.EXPOSURE),
        (P.LOW_CONTRAST, "linear_about_mean", _pair("contrast", "gain")),
        (P.COLOUR, "grey_blend_saturation", _pair("saturation", "gain")),
        (P.COLOUR, "hue_rotation", _pair("hue", "hue")),
    ),
    "PlanckianJitter": ((P.COLOUR, "planckian", _pair("temperature_limit", "kelvin")),),
    "ChromaticAberration": (*_COLOUR, *_BLUR),
    **dict.fromkeys(("Blur", "MedianBlur", "Superpixels"), (*_BLUR, *_of(P.LOW_RESOLUTION))),
    "AdvancedBlur": (*_of(P.DEFOCUS, model="gaussian_blur"), *_of(P.MOTION_BLUR, P.NOISE)),
    "GaussianBlur": ((P.DEFOCUS, "gaussian_blur", _pair("sigma_limit", "sigma_px")),),
    "Defocus": _of(P.DEFOCUS, model="display_disc"),
    "GlassBlur": _of(P.FROSTED_GLASS, model="local_overwriting"),
    "MotionBlur": ((P.MOTION_BLUR, "uniform_line", _pair("blur_limit", "length_px")),),
    "ZoomBlur": _of(P.MOTION_BLUR, model="outward_zoom_mean"),
    **dict.fromkeys(("Emboss", "RingingOvershoot", "Sharpen", "UnsharpMask"), _SHARPER),
    "GaussNoise": ((P.NOISE, "additive_gaussian", _pair("std_range", "std")),),
    "AdditiveNoise": (*_of(P.NOISE, model="additive_gaussian"), *_TONE),
    "ISONoise": _of(P.NOISE, P.COLOUR),
    "MultiplicativeNoise": _of(P.NOISE, model="multiplicative_gaussian"),
    "ShotNoise": _of(P.NOISE, model="poisson_display"),
    "SaltAndPepper": _of(P.NOISE, model="salt_pepper"),
    "RandomFog": _of(P.FOG),
    "RandomRain": _of(P.RAIN),
    "RandomSnow": _of(P.SNOW),
    "RandomSunFlare": _of(P.GLARE),
    "RandomGravel": _of(P.DIRT),
    "Spatter": (*_of(P.DIRT, model="thresholded_splashes"), *_of(P.WATER_ON_LENS)),
}
"""Class of albumentations 1 and 2 -> what it shows; an empty model is albumentations' own."""

_AREA_LINEAR = {"downscale": 3, "upscale": 1}
"""The interpolation of our own `downscale`, by OpenCV's numbers."""


def is_albumentations(document: Any) -> bool:
    """Whether a document is one of `A.save`."""
    return isinstance(document, dict) and isinstance(document.get("transform"), dict) and "transforms" not in document


def albumentations_manifest(document: Values, name: str) -> dict[str, Any]:
    """The manifest of a document of `A.save`; name: what the preset is called.

    A transform of probability 0 shows nothing. Raises DataError for a transform without a class.
    """
    rows: list[dict[str, Any]] = []
    for values, probability in _leaves(document["transform"], 1.0):
        if probability > 0:
            rows += _manifest_rows(values, probability)
    return {"version": MANIFEST_VERSION, "preset": name, "transforms": rows, "ancestors": []}


def _leaves(values: Any, probability: float, depth: int = 0) -> Iterator[tuple[Values, float]]:
    """(the values of a single transform, the probability that it is applied at most)."""
    if not isinstance(values, dict) or not isinstance(values.get(CLASS_KEY), str) or depth > 20:
        raise DataError(f"a transform without {CLASS_KEY}", remedy="save the pipeline again with A.save")
    own = values.get("p", 1.0)
    probability *= own if type(own) in (int, float) and 0 <= own <= 1 else 1.0
    inner = values.get("transforms")
    if not isinstance(inner, list):
        yield values, probability
        return
    for each in inner:
        yield from _leaves(each, probability, depth + 1)


def _manifest_rows(values: Values, probability: float) -> list[dict[str, Any]]:
    name = str(values[CLASS_KEY]).rsplit(".", 1)[-1]
    share = round(probability, 6)
    if name not in ROWS and name not in _DEPENDS:
        return [{"name": name, "phenomenon": UNKNOWN, "model": UNKNOWN, "range": {}, "p": share}]
    return [
        {
            "name": name,
            "phenomenon": str(phenomenon),
            "model": model or f"albumentations {name}",
            "range": ranges(values),
            "p": share,
        }
        for phenomenon, model, ranges in (_DEPENDS[name](values) if name in _DEPENDS else ROWS[name])
    ]


def _downscale(values: Values) -> tuple[Row, ...]:
    if values.get("interpolation_pair") == _AREA_LINEAR:
        return ((P.LOW_RESOLUTION, "area_linear", _pair("scale_range", "scale")),)
    return _of(P.LOW_RESOLUTION, model="box_downscale")


def _compression(values: Values) -> tuple[Row, ...]:
    if values.get("compression_type") == "webp":
        return _of(P.COMPRESSION)
    return ((P.COMPRESSION, "jpeg", _pair("quality_range", "quality")),)


_DEPENDS: Mapping[str, Callable[[Values], tuple[Row, ...]]] = {
    "ImageCompression": _compression,
    "Downscale": _downscale,
}
"""Classes whose model depends on their values."""
