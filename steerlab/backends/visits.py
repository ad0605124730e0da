"""Where one pass is touched from outside the model's process, and in which order.

There a module's output can be replaced, and nothing is shared: what overwrites a tensor of the residual branch
elsewhere is done to an output here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from steerlab.backends.architectures import Hook, SiteMap
from steerlab.sites import Site

T = TypeVar("T")


class Visit(NamedTuple, Generic[T]):
    """What is done at one module. site: the one that is read there. given: done to its tensor, in order. middle: to the
    stream behind attention, of which this is the output (`ndif.travelling`). keep: whether the tensor is needed for
    that, as the stream before it. edited: the sites that this edits.
    """

    site: Site
    hook: Hook
    given: list[T]
    middle: list[T]
    keep: bool
    edited: list[Site]


def visits(
    sites: SiteMap,
    entries: Sequence[Hook | None],
    given: Mapping[Site, list[T]],
    read: Sequence[Site] = (),
    *,
    flowing: bool = False,
) -> list[Visit[T]]:
    """Where to edit and where to read in one pass, in forward order.

    entries: of every layer, the output that is its block's input (`ndif.distant`). flowing: while text is generated.
    The input of a block is edited where it comes from then, at an output.
    """
    middle = {site.layer: some for site, some in given.items() if site.point == "resid_mid"}
    around = [Site(layer, point) for layer in middle for point in ("resid_pre", "attn_out")]
    found: list[Visit[T]] = []
    for site in sorted({*given, *read, *around}):
        if site.point == "resid_mid" and site not in read:
            continue
        mine = middle.get(site.layer, [])
        here = [] if site.point == "resid_mid" else given.get(site, [])
        attention = mine if site.point == "attn_out" else []
        keep = site.point == "resid_pre" and bool(mine)
        edited = [site] * bool(here) + [Site(site.layer, "resid_mid")] * bool(attention)
        hook = sites.hook(site)
        if flowing and site.point == "resid_pre":
            hook = entries[site.layer] or hook
        # the end of one block is the start of the next
        if found and (found[-1].hook.path, found[-1].hook.side) == (hook.path, hook.side):
            before = found.pop()
            here, edited = before.given + here, before.edited + edited
        found.append(Visit(site, hook, here, attention, keep, edited))
    return found
