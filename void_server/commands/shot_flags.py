"""The flags that every command about a shot shares, and what they mean.

What comes in: an argument parser to add them to, or what it read. What goes out: `ShotFiles` and `ShotSettings`. Hosts
and farms write these flags, so their names are stable. It reads no pixels and starts nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from void_server.wire.errors import SettingsError
from void_server.wire.shot import EFFECTS, MISSING, OPTIONAL_ROLES, QUALITY, FrameRange, ShotFiles, ShotSettings


class FrameWords(argparse.ArgumentParser):
    """Takes `--frames -5-10` for a range: argparse itself would take a word that begins with a dash for a flag."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words: list[str] = []
        for word in sys.argv[1:] if args is None else args:
            if words and words[-1] == "--frames" and re.match(r"-\d", word):
                words[-1] = f"--frames={word}"
            else:
                words.append(word)
        return super().parse_known_args(words, namespace)


def add_to(
    parser: argparse.ArgumentParser, *, required: bool = True, of_batch: bool = False, writes: bool = True
) -> None:
    """The flags that every command about a shot shares.

    required: whether plate and matte must be given. of_batch: a table of shots stands in the plate's place. writes:
    whether an output folder must be given.
    """
    pattern = "plate.####.exr, plate.%%04d.exr, plate.$F4.exr, a folder, or one frame"
    if of_batch:
        parser.add_argument("plate", metavar="SHOTS", help="a CSV or a folder of shots")
    else:
        parser.add_argument("plate", metavar="PLATE", nargs=None if required else "?",
                            help=f"EXR sequence, scene-linear: {pattern}")  # fmt: skip
    shot = parser.add_argument_group("the shot")
    if not of_batch:
        shot.add_argument("--matte", required=required, metavar="MATTE", help="EXR sequence, 1 = remove")
    shot.add_argument("--out", type=Path, required=writes, default=None, metavar="DIR", help="where results go")
    shot.add_argument("--keep", metavar="SEQ", help="what passes in front: never painted over")
    shot.add_argument("--reference", metavar="SEQ", help="frames painted or shot clean, trusted above all else")
    shot.add_argument("--frames", type=FrameRange.parse, metavar="A-B", help="frames to deliver; default: all")
    shot.add_argument("--handles", type=int, metavar="N", help="frames read for context on either side; default: all")
    shot.add_argument("--missing", choices=MISSING, default="error", help="what to do about frames that are missing")

    found = parser.add_argument_group("what the object did to the scene: shadow, reflection, splash")
    found.add_argument("--affected", metavar="SEQ", help="painted; replaces finding it")
    found.add_argument("--affected-add", metavar="SEQ", help="what was missed, painted on the frames that need it")
    found.add_argument(
        "--affected-sub", metavar="SEQ", help="what was wrongly found, painted on the frames that need it"
    )
    found.add_argument("--physics-prior", action=argparse.BooleanOptionalAction, default=True,
                       help="find it when none is painted; --no-...: remove the matte alone")  # fmt: skip
    found.add_argument("--effects", choices=EFFECTS, default="sure",
                       help="change what is surely the object's doing, or what is suspected as well")  # fmt: skip

    masks = parser.add_argument_group("masks")
    masks.add_argument(
        "--matte-channel", metavar="NAME", help="channel of every mask; default: alpha, else the only one"
    )
    masks.add_argument("--matte-invert", action=argparse.BooleanOptionalAction, default=None,
                       help="the matte is black where the object is; --no-...: it is meant as it is")  # fmt: skip
    masks.add_argument(
        "--matte-floor", type=float, metavar="V", help="up to this a mask is nothing, 0 to 1; default: above its noise"
    )
    masks.add_argument("--grow-px", type=float, default=ShotSettings.grow_px, metavar="PX",
                       help="how far beyond the matte the change reaches; default: %(default)s")  # fmt: skip
    masks.add_argument("--feather-px", type=float, default=ShotSettings.feather_px, metavar="PX",
                       help="how softly it ends; default: %(default)s")  # fmt: skip

    light = parser.add_argument_group("colour and channels of the plate")
    light.add_argument(
        "--colorspace",
        metavar="NAME",
        help="lin_rec709, acescg, or any scene-linear name of $OCIO or of an ACES config; default: the file's tags",
    )
    light.add_argument("--layer", metavar="NAME", help="layer, view or part that holds the picture")

    engine = parser.add_argument_group("the engine that fills the hole")
    engine.add_argument("--engine", default="auto", metavar="NAME", help="auto, propagate, void, or a plug-in's")
    quality = engine.add_mutually_exclusive_group()
    quality.add_argument("--quality", choices=QUALITY, default="release",
                         help="void: a first look in half the time; or, slower, a larger picture")  # fmt: skip
    quality.add_argument("--draft", dest="quality", action="store_const", const="draft", default="release",
                         help="the same as --quality draft")  # fmt: skip
    engine.add_argument(
        "--prompt", default="", metavar="TEXT", help="void: the scene after removal: 'a table with a cup on it'"
    )
    engine.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1")
    engine.add_argument("--seed", type=int, default=0, metavar="N", help="void: the same seed, the same picture")
    engine.add_argument("--refine", action="store_true", help="void: the second pass too, slower and steadier")
    engine.add_argument("--precision", choices=("bf16", "fp8"), help="void: fp8 is faster and smaller, less exact")
    engine.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="a setting of one engine")


def reader() -> argparse.ArgumentParser:
    """Reads one shot's words alone, as a row of a batch holds them; says what is wrong as a SettingsError."""
    parser = _Reader(prog="void-server run", add_help=False)
    add_to(parser)
    return parser


class _Reader(FrameWords):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message[0].upper()}{message[1:]}.", "See: void-server run --help")


def settings(args: argparse.Namespace) -> ShotSettings:
    """What the flags say. Raises SettingsError for values out of range."""
    options: dict[str, Any] = {}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise SettingsError(f"--option {text} has no value.", "Write it as NAME=VALUE.")
        options[name] = _plain(value)
    if args.refine:
        options["refine"] = True
    if args.precision:
        options["precision"] = args.precision
    return ShotSettings(
        frames=args.frames,
        handles=args.handles,
        engine=args.engine,
        physics_prior=args.physics_prior,
        effects=args.effects,
        quality=args.quality,
        prompt=args.prompt,
        colorspace=args.colorspace,
        layer=args.layer,
        matte_channel=args.matte_channel,
        matte_invert=args.matte_invert,
        matte_floor=args.matte_floor,
        device=args.device,
        seed=args.seed,
        missing=args.missing,
        grow_px=args.grow_px,
        feather_px=args.feather_px,
        options=options,
    )


def _plain(value: str) -> Any:
    """A flag's text as a number or truth value where it is one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(value.lower(), value)


def files(args: argparse.Namespace) -> ShotFiles:
    """The files that the flags' patterns name. Raises SequenceError listing every pattern that fails."""
    from void_server.shot import check

    return check.find_files(args.plate, args.matte, **{role: getattr(args, role) for role in OPTIONAL_ROLES})
