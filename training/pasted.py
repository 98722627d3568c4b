"""Cut-outs laid over photographs, with shadows and reflections drawn in two dimensions.

What comes in: ray-cast pictures (their cut-outs are used, their scenery is not), photographs. What goes out: the same
kind of take as the ray caster's own: as photographed, and with the object and its effects gone. Photographs bring what
the ray caster's scenery lacks: real texture, depth in layers, shadows of trees that have nothing to do with the object.

A shadow is the outline squashed and sheared about the feet; a reflection is the outline turned over. Passers-by get the
same and are never the object.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.filters import gauss, grid, sample
from training.looks import LAYERS, WINDOW
from training.pictures import PLATE

GAMMA = 2.2
BLURS = (0.4, 1.0, 2.0, 3.2, 5.0)


def lay(
    light: Tensor, body: Tensor, batch: dict[str, Any], plates: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """light [N, T, 3, h, w] and body [N, T, h, w] (which body each pixel shows) of the first T takes of N clips.

    Returns with_object [N, T, 3, h, w], without [N, WINDOW, 3, h, w], object [N, T, h, w] bool, to_view [N, T, 3, 3]:
    all of linear light in about [0, 1].
    """
    count, takes, _, height, width = light.shape
    device = light.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator, device=device) * (high - low) + low

    def chance(p: float) -> Tensor:
        return (torch.rand(count, generator=generator, device=device) < p).float()

    scenery, to_view = _scenery(plates, batch["takes"].to(device).float(), uniform, chance, (height, width))
    shown = scenery
    bare = scenery.clone()
    is_object = torch.zeros(count, takes, height, width, device=device)
    nothing = chance(0.1)
    gain = uniform(0.15, 0.6, 1, 1, 1, 1) / light.mean((1, 2, 3, 4), keepdim=True).clamp_min(1e-4)
    tinted = (light * gain).clamp(0, 1.5)
    layers = []
    for n in range(LAYERS):
        wanted = batch["movers"][:, n].to(device).view(-1, 1, 1, 1)
        mask = ((body == wanted) & (wanted >= 0)).float()
        own = batch["mover_is_object"][:, n].to(device).float()
        layers.append((mask, own))
        dark, glow, glow_share = _effects(mask, tinted, uniform, chance)
        on = 1 - nothing * own  # an object with no effect at all: passers-by keep theirs
        for picture, part in ((shown, on), (bare, on * (1 - own))):
            share = part.view(-1, 1, 1, 1, 1)
            picture.mul_(1 - share * dark)
            picture.lerp_(glow, share * glow_share)
    for mask, own in reversed(layers):
        soft = gauss(mask.reshape(-1, 1, height, width), 0.7).reshape(count, takes, 1, height, width)
        shown.lerp_(tinted, soft)
        bare.lerp_(tinted, soft * (1 - own.view(-1, 1, 1, 1, 1)))
        is_object = torch.maximum(
            is_object * (1 - (mask > 0).float() * (1 - own.view(-1, 1, 1, 1))), mask * own.view(-1, 1, 1, 1)
        )
    return {"with_object": shown, "without": bare[:, :WINDOW], "object": is_object > 0.5, "to_view": to_view}


def _scenery(plates: Tensor, when: Tensor, uniform: Any, chance: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Photographs under a moving camera, in up to two layers of depth: (light, homographies to each take)."""
    count, takes = when.shape
    device = when.device
    since = when - when[:, WINDOW // 2 : WINDOW // 2 + 1]
    moves = 1 - chance(0.35).view(-1, 1)
    place = _path(since * moves, uniform, size)
    pick = (uniform(0, 1) * len(plates)).long().clamp_max(len(plates) - 1)
    photo = plates[pick].float() / 255
    flip = chance(0.5).view(-1, 1, 1, 1) > 0
    photo = torch.where(flip, photo.flip(-1), photo)
    grey = photo.mean(1, keepdim=True)
    photo = ((grey + (photo - grey) * uniform(0.2, 1.2, 1, 1, 1)) * uniform(0.8, 1.2, 3, 1, 1)).clamp(0, 1)
    light = photo**GAMMA
    cloud = _cloud(uniform, count, device)
    # Shadows that lie on the scenery and have nothing to do with the object.
    gobo = 1 - uniform(0.3, 0.8, 1, 1, 1) * chance(0.4).view(-1, 1, 1, 1) * torch.sigmoid((cloud[:, :1] - 0.3) * 12)
    light = light * gobo
    far = _through(light, place, size)
    # A nearer layer, moving faster, cut out along a soft noisy edge.
    near_place = place.clone()
    near_place[:, :, :2, 2] += (since * moves)[..., None] * uniform(-2.5, 2.5, 1, 2)
    other = light[torch.arange(count, device=device).roll(1)]
    near = _through(torch.cat([other, torch.sigmoid((cloud[:, 1:2] - 0.7) * 25)], 1), near_place, size)
    share = near[:, :, 3:] * chance(0.55).view(-1, 1, 1, 1, 1)
    out = far * (1 - share) + near[:, :, :3] * share
    middle = place[:, WINDOW // 2 : WINDOW // 2 + 1]
    to_view = torch.linalg.inv(place.double()) @ middle.double()
    error = torch.randn(count, takes, 2, 3, device=device) * torch.tensor([0.0006, 0.0006, 0.5], device=device)
    error = error * uniform(0, 0.6, 1, 1, 1) * (since != 0).float().view(count, takes, 1, 1)
    wobble = torch.eye(3, device=device).repeat(count, takes, 1, 1)
    wobble[:, :, :2] += error * moves.view(-1, 1, 1, 1)
    return out, (wobble.double() @ to_view).float()


def _path(since: Tensor, uniform: Any, size: tuple[int, int]) -> Tensor:
    """[N, T, 3, 3] from picture pixels to plate pixels: pan, tilt, zoom and roll at a steady rate,
    and a shaking hand."""
    count, takes = since.shape
    height, width = size
    scale = uniform(0.75, 1.7, 1) * (1 + 0.006 * uniform(-1, 1, 1) * since)
    angle = 0.003 * uniform(-1, 1, 1) * since + uniform(-0.05, 0.05, 1)
    moved = torch.stack([uniform(-4, 4, 1) * since, uniform(-1.5, 1.5, 1) * since], -1)
    shake = torch.randn(count, takes, 2, device=since.device) * uniform(0, 0.8, 1, 1) * (since != 0).float()[..., None]
    centre = torch.stack([uniform(0.3, 0.7, 1) * PLATE[1], uniform(0.3, 0.7, 1) * PLATE[0]], -1) + moved + shake
    c, s = torch.cos(angle) * scale, torch.sin(angle) * scale
    x0, y0 = (width - 1) / 2, (height - 1) / 2
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    rows = [
        c,
        -s,
        centre[..., 0] - c * x0 + s * y0,
        s,
        c,
        centre[..., 1] - s * x0 - c * y0,
        zero + 2e-5 * uniform(-1, 1, 1),
        zero,
        one,
    ]
    return torch.stack(rows, -1).reshape(count, takes, 3, 3)


def _through(plate: Tensor, place: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, T, C, h, w] of plates [N, C, H, W] mirrored at their edges."""
    count, takes = place.shape[:2]
    height, width = size
    x, y = grid(height, width, plate.device)
    points = place @ torch.stack([x, y, torch.ones_like(x)]).reshape(3, -1)
    u, v = (points[:, :, :2] / points[:, :, 2:]).reshape(count, takes, 2, height, width).unbind(2)
    out = sample(plate, u.reshape(count, takes * height, width), v.reshape(count, takes * height, width), "reflection")
    return out.reshape(count, plate.shape[1], takes, height, width).transpose(1, 2)


def _cloud(uniform: Any, count: int, device: torch.device) -> Tensor:
    """Smooth noise [N, 2, H, W], mean 0, deviation about 1, of a random coarseness."""
    fine = torch.randn(count, 2, 28, 49, device=device)
    coarse = torch.randn(count, 2, 7, 13, device=device)
    up = [torch.nn.functional.interpolate(n, PLATE, mode="bicubic", align_corners=False) for n in (fine, coarse)]
    mix = uniform(0.1, 0.9, 1, 1, 1)
    made = up[0] * mix + up[1] * (1 - mix)
    return made / made.std((2, 3), keepdim=True)


def _effects(mask: Tensor, tinted: Tensor, uniform: Any, chance: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What one body does: (how dark [N, T, 3, h, w], its mirror image, share of the mirror image)."""
    count, takes, height, width = mask.shape
    rows = torch.arange(height, device=mask.device).view(1, 1, -1)
    feet = torch.where(mask.amax(3) > 0.5, rows, -1).amax(2).float()
    feet = torch.where(feet < 0, height * 2.0, feet)
    has = {"cast": chance(0.72), "contact": chance(0.45), "mirror": chance(0.3)}
    lifted = uniform(0, 30) * chance(0.12)
    squash = uniform(0.15, 0.9) * torch.where(chance(0.3) > 0, -1.0, 1.0)
    cast = _fallen(mask[:, :, None], feet, squash, uniform(-1.8, 1.8), lifted)
    cast = _blurred(cast, uniform, feet) * (has["cast"] * uniform(0.15, 0.92)).view(-1, 1, 1, 1, 1)
    contact = _fallen(mask[:, :, None], feet, uniform(0.05, 0.25), torch.zeros(count, device=mask.device), lifted * 0)
    contact = gauss(contact.reshape(-1, 1, height, width), 3.0).reshape(cast.shape)
    contact = contact * (has["contact"] * uniform(0.2, 0.8)).view(-1, 1, 1, 1, 1)
    hue = torch.stack([uniform(0.98, 1.05), uniform(0.9, 1.0), uniform(0.75, 1.0)], 1).view(-1, 1, 3, 1, 1)
    dark = (torch.maximum(cast, contact) * hue).clamp(0, 0.97)
    image = _fallen(
        torch.cat([mask[:, :, None], tinted * mask[:, :, None]], 2),
        feet,
        uniform(0.7, 1.05),
        torch.zeros(count, device=mask.device),
        lifted * 0,
        uniform(0, 3),
        uniform(0.05, 0.4),
    )
    image = gauss(image.reshape(-1, 4, height, width), 0.8).reshape(count, takes, 4, height, width)
    share = image[:, :, :1] * (has["mirror"] * uniform(0.1, 0.65)).view(-1, 1, 1, 1, 1)
    return dark, image[:, :, 1:] / image[:, :, :1].clamp_min(0.05) * uniform(0.5, 1.0, 1, 1, 1, 1), share


def _fallen(
    layer: Tensor,
    feet: Tensor,
    squash: Tensor,
    shear: Tensor,
    lifted: Tensor,
    ripple: Tensor | None = None,
    wave: Tensor | None = None,
) -> Tensor:
    """layer [N, T, C, h, w] turned over about the row of its feet, squashed, sheared and moved down by `lifted`."""
    count, takes, channels, height, width = layer.shape
    x, y = grid(height, width, layer.device)

    def each(value: Tensor) -> Tensor:
        return value.view(count, -1, 1, 1)

    below = y - each(feet) - each(lifted)
    above = below / each(squash)
    u = x - each(shear) * above
    if ripple is not None and wave is not None:
        beat = torch.arange(takes, device=layer.device).view(1, -1, 1, 1)
        u = u + each(ripple) * torch.sin(each(wave) * y * 6.28 / 2 + beat * 0.9)
    v = each(feet) - above
    out = sample(
        layer.reshape(-1, channels, height, width),
        u.expand(count, takes, height, width).reshape(-1, height, width),
        v.reshape(-1, height, width),
        "zeros",
    )
    there = (above > -1).float().reshape(-1, 1, height, width)
    return (out * there).reshape(layer.shape)


def _blurred(cast: Tensor, uniform: Any, feet: Tensor) -> Tensor:
    """A penumbra: of one softness, or softer the farther from the feet."""
    count, takes, _, height, width = cast.shape
    levels = torch.stack([gauss(cast.reshape(-1, 1, height, width), s).reshape(cast.shape) for s in BLURS])
    pick = (uniform(0, 1) * len(BLURS)).long().clamp_max(len(BLURS) - 1)
    each = torch.arange(count, device=cast.device)
    near, far = levels[pick, each], levels[(pick + 1).clamp_max(len(BLURS) - 1), each]
    rows = torch.arange(height, device=cast.device).view(1, 1, 1, -1, 1)
    distance = ((rows - feet.view(count, takes, 1, 1, 1)).abs() / uniform(8, 60, 1, 1, 1, 1)).clamp(0, 1)
    return near + (far - near) * distance
