"""What `--help` shows under its flags: commands as people type them, each with what it is for.

What comes in: a command's name. What goes out: text. A test parses every line of it.
"""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "": (
        ("void-server demo", "see it work, on a shot made for it"),
        ("void-server run 'plate.####.exr' --matte 'roto.####.exr' --out clean", "a shot of your own"),
        ("void-server doctor", "is this machine fit for it?"),
        ("void-server COMMAND --help", "every flag of a command, with examples"),
    ),
    "run": (
        ("void-server run 'plate.####.exr' --matte 'roto.####.exr' --out clean", "the object, and what it did"),
        (
            "void-server run plate --matte roto --out clean --affected 'shadow.####.exr'",
            "the shadow painted; folders in place of patterns",
        ),
        (
            "void-server run plate --matte roto --out clean --reference 'painted.1042.exr'",
            "one painted frame, carried through the shot",
        ),
        ("void-server run plate --matte roto --out clean --frames 1010-1020", "these again, in an older result"),
        ("void-server run plate --matte roto --out clean --engine void --prompt 'an empty street'", "Netflix VOID"),
    ),
    "submit": (
        ("void-server submit plate --matte roto --out clean", "wait for it"),
        ("void-server submit plate --matte roto --out clean --detach", "don't wait; `fetch` brings it later"),
        ("void-server submit plate --matte roto --out clean --server tcp://box:5790 --keys my-keys", "a GPU box"),
    ),
    "check": (("void-server check 'plate.####.exr' --matte 'roto.####.exr'", "before a long shot"),),
    "effects": (("void-server effects plate --matte roto --out affected", "look, paint, then `run --affected`"),),
    "convert": (
        ("void-server convert clip.mov --out clip_exr", "a movie as scene-linear EXR"),
        ("void-server convert 'scan.####.dpx' --out scan_exr --input-space 'ARRI LogC4'", "a camera's log"),
        ("void-server convert clean --preview look.mp4", "EXR frames as a movie"),
    ),
    "serve": (
        ("void-server serve", "for you, on this machine"),
        ("void-server serve --bind tcp://0.0.0.0:5790 --keys box-keys", "for everybody whose key is allowed"),
        ("void-server serve --device cuda:0 --device cuda:1 --trust /mnt/show", "two cards, plates read in place"),
    ),
    "status": (
        ("void-server status", "all your jobs"),
        ("void-server status 20261130-184158-3cdfff0f", "one"),
    ),
    "fetch": (("void-server fetch 20261130-184158-3cdfff0f --out clean", "after `submit --detach`"),),
    "jobs": (("void-server jobs drop 20261130-184158-3cdfff0f", "delete what a finished job made"),),
    "keys": (
        ("void-server keys new client", "this machine's own key"),
        ("void-server keys allow client.public --name ana --keys box-keys", "on the box: let ana in"),
        ("void-server keys revoke ana --keys box-keys", "and out again, at once"),
    ),
    "weights": (
        ("void-server weights fetch /srv/weights", "21 GB; the licences are named first"),
        ("void-server weights check /srv/weights", "is anything missing or damaged?"),
    ),
    "doctor": (
        ("void-server doctor", "the last line: ready, or not ready because"),
        ("void-server doctor --report report.zip plate clean", "for a bug report: logs and headers, no pictures"),
    ),
    "bundle": (
        ("void-server bundle void-bundle", "for machines without internet"),
        ("void-server bundle void-bundle --void", "with torch, for engine void"),
    ),
    "install": (
        ("void-server install nuke", "into ~/.nuke"),
        ("void-server install nuke --central /tools/void_nuke", "for a studio; name it in NUKE_PATH"),
        ("void-server install blender --zip void_inpaint.zip", "drop it onto Blender's window"),
    ),
    "completion": (
        ("void-server completion bash > ~/.local/share/bash-completion/completions/void-server", "for your account"),
    ),
}


def epilog(command: str) -> str | None:
    """The lines under a command's flags; None where its flags say enough.

    >>> print(epilog("check"))
    examples:
      void-server check 'plate.####.exr' --matte 'roto.####.exr'
          before a long shot
    """
    rows = EXAMPLES.get(command)
    if not rows:
        return None
    return "\n".join(["examples:", *(f"  {line}\n      {what}" for line, what in rows)])
