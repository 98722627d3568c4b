"""Which colour space a plate is in: as asked for, else as its own tags say, else linear Rec.709 with a warning.

What comes in: a name an artist or a host gives, and the tags of one file. What goes out: primaries and white as EXR
stores them, or an error that names the attribute and the flag. It converts no light: that is `image/colour.py`.

Names are looked up in the config of `$OCIO` where that is set, in the few below, and in the configs that OpenColorIO
brings along (ACES 1.3 to 2.1, aliases and camera gamuts included). A config gives a matrix; where that is one of the
spaces below to within MATRIX_ALIKE, its published primaries are taken instead, so that a plate gives the same bits
under any of its names.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from void_server.image.colour import AP0, AP1, P3D65, REC709, REC2020, rgb_to_xyz, to_rec709
from void_server.wire.errors import ColourError

Primaries = tuple[float, ...]

ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
PROPHOTO = (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585)
P3DCI = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)
P3D60 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.32168, 0.33767)
EGAMUT = (0.8, 0.3177, 0.18, 0.9, 0.065, -0.0805, 0.3127, 0.3290)
XYZ_E = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3)
"""Sources: Adobe RGB (1998) 2005-05, ISO 22028-2 (ROMM), SMPTE RP 431-2, FilmLight's E-Gamut, CIE 1931."""

SPACES = {
    "lin_rec709": REC709,
    "acescg": AP1,
    "aces2065-1": AP0,
    "lin_rec2020": REC2020,
    "lin_p3d65": P3D65,
    "lin_ap1": AP1,
    "lin_ap0": AP0,
    "lin_adobergb": ADOBE,
    "lin_prophoto": PROPHOTO,
    "lin_p3dci": P3DCI,
    "lin_p3d60": P3D60,
    "lin_egamut": EGAMUT,
    "lin_xyz_e": XYZ_E,
    "linear": REC709,
    "lin_srgb": REC709,
    "lin_bt709": REC709,
    "lin_bt2020": REC2020,
    "lin_aces": AP0,
    "lin_acescg": AP1,
    "lin_dci_p3_d65": P3D65,
    "lin_display_p3": P3D65,
    "lin_p3_dci": P3DCI,
    "lin_rimm_romm_prophoto": PROPHOTO,
    "lin_filmlight_e_gamut": EGAMUT,
    "lin_cie_xyz_e": XYZ_E,
    "xyz": XYZ_E,
    "linear_tristimulus": REC709,
    "lin_bt709_i_d65": REC709,
    "lin_bt2020_i_d65": REC2020,
}
"""Names that need no config. Ours come first; then what Nuke's and Blender's configs and ACES 1.2's call them."""

OURS = ("lin_rec709", "acescg", "aces2065-1", "lin_rec2020", "lin_p3d65")
TAGGED = ("lin_rec709", "lin_ap0", "lin_ap1", "lin_rec2020", "lin_p3d65", *list(SPACES)[7:13])
"""What primaries are called when only numbers say them."""

SAYS_NOTHING = ("", "unknown", "data", "raw", "none", "default", "auto", "noncolor", "utilityraw", "noncolordata")
"""Names that give no colour: `unknown` and `data` are the Color Interop Forum's, the rest OpenColorIO's and hosts'."""

LINEAR_ROLES = ("compositing_linear", "rendering")
"""Roles of older configs for what newer ones call scene_linear."""

NOT_LINEAR = re.compile(
    r"acescct?|.*log.*|.*gamma.*|g1?\d\d.*|srgb.*|.*rec1886.*|rec709|bt709|rec601|cineon|adx1[06]|.*display|"
    r".*texture|.*video|out(put)?s.*|pq.*|hlg.*|.*st2084.*|viperlog|panalog|ploglin|redspace|filmic.*|agx.*|bmdfilm.*"
)
"""Names of curves, of any host, that no config here need know: squeezed as `_key` does."""

MATRIX_ALIKE = 2e-3
PRIMARIES_ALIKE = 2e-3


@dataclasses.dataclass(frozen=True)
class PlateSpace:
    """The plate's primaries, and how we know them."""

    name: str
    chromaticities: Primaries
    source: str
    warning: str = ""


def plate_space(
    asked: str | None, chromaticities: Primaries | None, aces_container: bool, interop_id: str | None
) -> PlateSpace:
    """The plate's colour space: as asked for, else by its own tags, else linear Rec.709 with a warning.

    asked: `--colorspace`. The rest is what the plate's header says. A name that gives no colour, such as `data`, leaves
    it to the tags that follow; so does a `colorInteropID` nobody knows, where there are primaries. Raises ColourError
    for a name we don't know, or one that is not scene-linear.
    """
    told = ""
    if asked and _key(asked) not in SAYS_NOTHING:
        return _named(asked, "asked for", "--colorspace")
    if asked:
        told = f"--colorspace {asked} gives no colour"
    usable = chromaticities if chromaticities and _usable(chromaticities) else None
    if interop_id and _key(interop_id) not in SAYS_NOTHING:
        try:
            found = _named(interop_id, "colorInteropID in the plate", "colorInteropID in the plate")
        except ColourError as error:
            if usable is None or "unknown" not in error.message:
                raise
            told = f"The plate's colorInteropID '{interop_id}' is unknown"
        else:
            if usable and not _alike(usable, found.chromaticities):
                other = _by_numbers(usable).name
                warning = (
                    f"The plate's colorInteropID says {interop_id}, its chromaticities {other}; the first is taken. "
                    "Give --colorspace to be sure."
                )
                found = dataclasses.replace(found, warning=warning)
            return found
    elif interop_id and not told:
        told = f"The plate's colorInteropID is '{interop_id}', which gives no colour"
    if aces_container:
        return PlateSpace("lin_ap0", AP0, "acesImageContainerFlag in the plate")
    if usable:
        found = _by_numbers(usable)
        # `unknown` leaves it to the chromaticities by its definition; what else was overruled is said.
        quiet = not told or (not asked and _key(interop_id or "") == "unknown")
        return dataclasses.replace(
            found, warning="" if quiet else f"{told}; its chromaticities are taken ({found.name})."
        )
    if chromaticities:
        listed = ", ".join(f"{value:g}" for value in chromaticities)
        told = f"The plate's chromaticities ({listed}) are no colour space"
    told = told or "The plate does not say its colour space"
    warning = f"{told}; linear Rec.709 is assumed. Give --colorspace to be sure."
    return PlateSpace("lin_rec709", REC709, "assumed", warning)


def _usable(chromaticities: Primaries) -> bool:
    """Whether these numbers are primaries at all: finite, a white with some luminance, a triangle with some area."""
    xy = np.asarray(chromaticities, np.float64)
    if xy.size != 8 or not np.isfinite(xy).all() or np.abs(xy).max() > 10 or xy[7] < 1e-3:
        return False
    try:
        with np.errstate(all="ignore"):
            matrix = rgb_to_xyz(chromaticities)
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(matrix).all() and np.linalg.cond(matrix) < 1e4)


def _alike(one: Primaries, other: Primaries) -> bool:
    return bool(np.allclose(one, other, atol=PRIMARIES_ALIKE)) or bool(
        np.allclose(to_rec709(tuple(one)), to_rec709(tuple(other)), atol=MATRIX_ALIKE)
    )


def _by_numbers(chromaticities: Primaries) -> PlateSpace:
    alike = [name for name in TAGGED if np.allclose(chromaticities, SPACES[name], atol=PRIMARIES_ALIKE)]
    named = alike[0] if alike else "as tagged"
    return PlateSpace(named, SPACES.get(named, tuple(chromaticities)), "chromaticities in the plate")


def _key(name: str) -> str:
    """A name without what spellings differ in: case, spaces, dashes; `linear` and `lin` are one.

    >>> _key("Linear Rec.709 (sRGB)"), _key("lin_rec709_srgb"), _key("Utility - Linear - Rec.709")
    ('linrec709srgb', 'linrec709srgb', 'linrec709')
    """
    squeezed = "".join(re.findall(r"[a-z0-9]+", name.lower()))
    squeezed = re.sub(r"^(utility|input(generic)?|role)(?=lin|aces)", "", squeezed)
    squeezed = squeezed.replace("linear", "lin", 1) if squeezed != "linear" else squeezed
    return re.sub(r"^aces(?=aces)|(?<=.)(scene|scenelinear|scenereferred)$", "", squeezed)


_OWN = {_key(name): primaries for name, primaries in SPACES.items()}


def _named(name: str, source: str, where: str) -> PlateSpace:
    """A space by its name. Raises ColourError that says where the name comes from."""
    for spelled in _spellings(name):
        found = _looked_up(spelled, os.environ.get("OCIO", ""), source == "asked for")
        if found == "not linear":
            raise ColourError(
                f"Colour space '{name}' ({where}) is not scene-linear.",
                "Convert the plate to scene-linear EXR; if only the name is wrong, give the right one as --colorspace.",
            )
        if isinstance(found, str):
            raise ColourError(f"Colour space '{name}' ({where}): {found}.", "Name an RGB space with --colorspace.")
        if found is not None:
            primaries, told = found
            return PlateSpace(name, primaries, source, told)
    near = difflib.get_close_matches(name, _all_names(os.environ.get("OCIO", "")), 3, 0.6)
    meant = f"did you mean {', '.join(near)}? " if near else ""
    raise ColourError(
        f"Colour space '{name}' ({where}) is unknown.",
        f"Name the right one with --colorspace: {meant}{', '.join(OURS)}, or any name of the config in $OCIO.",
    )


def _spellings(name: str) -> Iterator[str]:
    """The name, and what is left without the menus and roles that hosts put around it: `scene_linear (ACEScg)`."""
    yield name.strip()
    if inner := re.fullmatch(r"\s*\w+ \((.+)\)\s*", name):
        yield inner[1]
    if "/" in name:
        yield name.rpartition("/")[2].strip()
    if re.match(r"[a-z][\w.-]*:", name):
        yield name.partition(":")[2]


@functools.lru_cache(maxsize=256)
def _looked_up(name: str, ocio: str, config_first: bool) -> tuple[Primaries, str] | str | None:
    """(primaries, warning) of a name, "not linear" or what else is wrong with it, or None where nobody knows it."""
    own = _OWN.get(_key(name))
    if own is not None and not (ocio and config_first):
        return own, ""
    for title, config in configs(ocio):
        space = config.getColorSpace(name)
        if space is None and title != ocio and name in LINEAR_ROLES:
            space = config.getColorSpace("scene_linear")
        if space is None and title != ocio:
            same = [n for n in _names_of(config) if _key(n) == _key(name)]
            space = config.getColorSpace(same[0]) if same else None
        if space is None:
            continue
        found = _primaries(title, space.getName())
        if isinstance(found, str):
            return found
        if title == ocio or not (config.hasRole(name) or name in LINEAR_ROLES):
            return found, ""
        told = f"'{name}' is a role, and $OCIO names no config that has it: {space.getName()} is taken, as in {title}."
        return found, f"{told} Give --colorspace a full name to be sure."
    if own is not None:
        return own, ""
    return "not linear" if NOT_LINEAR.fullmatch(_key(name)) else None


def configs(ocio: str) -> Iterator[tuple[str, Any]]:
    """(title, config): the studio's own where `$OCIO` names one, then those that OpenColorIO brings, newest first."""
    if ocio:
        yield ocio, _config(ocio)
    import PyOpenColorIO

    names = [row[0] for row in PyOpenColorIO.BuiltinConfigRegistry().getBuiltinConfigs()]
    for name in sorted((n for n in names if n.startswith("studio")), reverse=True):
        yield f"ocio://{name}", _config(f"ocio://{name}")


@functools.lru_cache(maxsize=16)
def _config(title: str) -> Any:
    """A config by its file or `ocio://` name. Raises ColourError where it can't be read."""
    import PyOpenColorIO

    try:
        return PyOpenColorIO.Config.CreateFromFile(title)
    except (PyOpenColorIO.Exception, PyOpenColorIO.ExceptionMissingFile) as error:
        why = " ".join(str(error).split())[:160]
        raise ColourError(
            f"The config that $OCIO names can't be read: {title}: {why}.", "Set or unset OCIO."
        ) from error


def _names_of(config: Any) -> Iterator[str]:
    for space in config.getColorSpaces():
        yield space.getName()
        yield from space.getAliases()


@functools.lru_cache(maxsize=4)
def _all_names(ocio: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*SPACES, *(name for _, config in configs(ocio) for name in _names_of(config))]))


@functools.lru_cache(maxsize=256)
def _primaries(title: str, name: str) -> Primaries | str:
    """Primaries and white of a config's space, seen from the white of ACES; or what is wrong with it.

    A processor to ACES2065-1 is asked about 0, the three primaries, and their multiples: linear light passes through
    a matrix, so every answer follows from the first three.
    """
    import PyOpenColorIO

    config = _config(title)
    if config.getColorSpace(name).isData():
        return "it is data, not colour"
    try:
        to_ap0 = PyOpenColorIO.Config.GetProcessorToBuiltinColorSpace(
            config, name, "ACES2065-1"
        ).getDefaultCPUProcessor()
    except PyOpenColorIO.Exception as error:
        return f"OpenColorIO can't convert it: {' '.join(str(error).split())[:160]}"
    basis = _through(to_ap0, np.eye(3))
    probes = np.array([[0, 0, 0], [0.18, 0.18, 0.18], [4, 0, 0], [0, 16, 0], [0, 0, 0.01], [2, 3, 5]], np.float64)
    if not np.allclose(_through(to_ap0, probes), probes @ basis, rtol=1e-3, atol=1e-5):
        return "not linear"
    if not np.allclose(basis.sum(0), 1, atol=5e-3):
        return "equal parts of its channels are no grey, so it is not RGB"
    xyz = (rgb_to_xyz(AP0) @ basis.T).T
    found = tuple(float(value) for column in xyz for value in column[:2] / column.sum()) + AP0[6:]
    known = [space for space in SPACES.values() if np.allclose(to_rec709(space), to_rec709(found), atol=MATRIX_ALIKE)]
    return known[0] if known else found


def _through(processor: Any, rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    pixels = np.ascontiguousarray(rgb, np.float32)
    processor.applyRGB(pixels)
    return pixels.astype(np.float64)
