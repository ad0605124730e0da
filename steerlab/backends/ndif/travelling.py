"""The code of ours that runs on the server, next to `edits`: both are sent by value, and nothing else of steerlab is
there. This file imports torch, json and edits alone, and its functions take tensors, numbers and tuples.

A point is what is done at one module: `(path, side, wrapped, operands, middle, keep, sites)`, of which the first three
are those of `architectures.Hook` and an operand is a plain tuple in the order of `edits.Operand`. A class would travel
as bytecode, which another version of Python cannot read.

`middle` has the operands of resid_mid. There the residual branch shares its tensor, and in the processes of the hosted
NDIF nothing is shared. So that edit is made to what attention adds: with P the block's input and a attention's output,
`a + (edited(P + a) - (P + a))`, the same stream but for rounding. `middle` stands at the point of attention's output
then, and the one of the block's input has `keep`. `sites` is at how many sites the point edits.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from steerlab.edits import apply

MARK = "steerlab "  # what begins a line that is meant for the client


def at(model: Any, path: str) -> Any:
    """The module at a path."""
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def visit(model: Any, point: Any, moved: dict[Any, Any]) -> Tensor:
    """The tensor at a point, edited where the point has operands. moved: operands that are on the device already, by
    their ids, and the block's input that is kept.
    """
    path, side, wrapped, operands, middle, keep, _sites = point
    envoy = at(model, path)
    value = envoy.input if side == "input" else envoy.output
    x: Tensor = value[0] if wrapped else value
    if operands:
        x = apply(x, there(operands, x, moved))
    left = x
    if middle:
        stream = moved["start"] + x
        left = x + (apply(stream, there(middle, x, moved)) - stream)
    if operands or middle:
        if side == "input":
            envoy.input = left
        else:
            envoy.output = (left, *value[1:]) if wrapped else left
    if keep:
        moved["start"] = x
    return x


def there(operands: Any, x: Tensor, moved: dict[Any, Any]) -> Any:
    """Operands where x is; each is moved once."""
    for operand in operands:
        if id(operand) not in moved:
            moved[id(operand)] = tuple(
                part.to(x.device) if isinstance(part, torch.Tensor) else part for part in operand
            )
    return [moved[id(operand)] for operand in operands]


def steer(model: Any, points: Any, moved: dict[Any, Any]) -> int:
    """Visit every point; returns at how many sites there was an edit."""
    for point in points:
        visit(model, point, moved)
    return sum(int(point[-1]) for point in points)


def isolated(model: Any) -> bool:
    """Whether the server runs this in a process of its own, to which tensors come as copies, and weights not at all."""
    return type(getattr(model, "interleaver", None)).__name__ == "IPCInterleaver"


def refuse_inputs(model: Any, points: Any) -> None:
    """Raise where a point is a module's input and the server runs this in a process of its own.

    There what was read is written back whole, and with a block's input its key-value cache: as a copy, to which the
    block then adds its keys, and which is lost.
    """
    paths = [point[0] for point in points if point[1] == "input"]
    if paths and isolated(model):
        raise ValueError(
            f"this server runs jobs in processes of their own, where the input of {paths[0]} cannot be changed while "
            "text is generated: steer at resid_post of the block before, or on a server without --sandbox"
        )


def read(
    model: Any, points: Any, rows: dict[str, int], weight: Tensor, sums: Tensor, norms: Tensor, kept: Any
) -> None:
    """Edit at every point, and add what is read at those in `rows` (a site's name to its place) to sums and norms.

    points: pairs of name and point. weight: [rows positions tokens]. sums: [sites positions d_model] and norms: [sites
    positions], float64. kept: None, or a list to which the batch's values [rows sites positions d_model] are added.
    """
    unread = (weight == 0).all(1)[..., None]
    values: list[Any] = [None] * len(rows)
    moved: dict[Any, Any] = {}
    for name, point in points:
        x = visit(model, point, moved)
        if name in rows:
            # padding may hold NaN, and 0 times NaN is NaN
            part, there = x.float().masked_fill(unread.to(x.device), 0), weight.to(x.device)
            seen = (there @ part).cpu()
            sums[rows[name]] += seen.double().sum(0)
            norms[rows[name]] += (there @ part.norm(dim=-1, keepdim=True))[..., 0].cpu().double().sum(0)
            values[rows[name]] = seen
    if kept is not None:
        kept.append(torch.stack(values, 1))


def keep(model: Any, points: Any, wanted: dict[str, Any], kept: Any) -> None:
    """Edit at every point, and keep what is wanted of those in `wanted`, by a site's name: a row's stream at some
    columns, [columns d_model], or what a function of `looks` makes of it.

    points: pairs of name and point. wanted: tuples of a place in `kept` and a number there, a row, columns, and the
    function, or None, with what it takes besides.
    """
    moved: dict[Any, Any] = {}
    for name, point in points:
        x = visit(model, point, moved)
        for place, number, row, columns, how, given in wanted.get(name, ()):
            stream = x[row, columns]
            kept[place][number] = made_of(how, [stream.float()], given) if how else stream.cpu()


def skip(model: Any, outputs: Any, resid: Tensor) -> None:
    """Put a stream [rows 1 d_model] in the place of every block's output."""
    like = None
    for path, _side, wrapped, *_ in outputs:
        block = at(model, path)
        if like is None:
            like = block.input  # which says where the model is and what it computes in
        x = resid.to(like.device, like.dtype)
        block.skip((x,) if wrapped else x)


def rows_of(model: Any, matrix: Any, which: Any) -> Tensor:
    """Some rows, by their ids, or all, of a matrix that has a row for every token, [tokens d_model].

    matrix: the path of an embedding or of a head; by what an embedding multiplies its rows, None for a head; d_model;
    how many rows there are. Where the module's weight is not at hand, or is packed, its rows are what it makes of the
    ids; or, of a head, of every unit vector, less its bias: in half precision as exact as that.
    """
    path, scale, width, count = matrix
    which = slice(0, count) if which is None else which
    module = at(model, path)
    rows: Tensor
    if not isolated(model) and module.weight.is_floating_point():
        rows = module.weight.detach()[which]
        return rows
    like = module.input  # which says where the module is and what it computes in
    if scale is not None:
        ids = torch.arange(count)[which]
        made = module(ids.to(like.device)).detach().cpu()
        # what multiplied them was rounded to their type
        rows = made.float() / torch.tensor(scale, dtype=made.dtype).float()
    else:
        bias, *parts = (
            module(x.to(like.device, like.dtype))[:, which].detach().cpu()
            for x in (torch.zeros(1, width), *torch.eye(width).split(256))
        )
        rows = (torch.cat(parts) - bias).T
    return rows


def jacobian_rows(
    model: Any, points: Any, ends: tuple[str, str], position: int, nothing: Tensor, first: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a Jacobian from number `first` on, one for each row of the batch, [rows d_model]; and the states between
    which it is, each [d_model].

    points: pairs of name and point. ends: the names of the site that is nudged, at a position, and of the one that is
    read, at the last token. nothing: what the nudge adds, [rows 1 d_model], a leaf.
    """
    if isolated(model):
        raise ValueError(
            "this server runs jobs in processes of their own, which gradients do not reach: differentiate on a server "
            "without --sandbox, or with the model in the notebook's process"
        )
    moved: dict[Any, Any] = {}
    seen = {name: visit(model, point, moved) for name, point in points}
    start, end = seen[ends[0]][0, position], seen[ends[1]][:, -1]
    rows, width = len(end), end.shape[-1]
    ways = torch.eye(width)[first : first + rows].to(end.device, end.dtype)
    (found,) = torch.autograd.grad(end, nothing, ways)
    # copies: what follows in the pass may overwrite the states
    return found[:, 0].cpu(), start.detach().cpu().clone(), end[0].detach().cpu().clone()


def last_logits(logits: Tensor, keep: int) -> Tensor:
    """The logits of the last `keep` positions, float32, as a tensor of their own: a view would travel whole."""
    return logits[:, -keep:].float().cpu().clone()


def made_of(how: Any, of: Any, given: Any) -> list[Tensor]:
    """What a function of `looks` makes of logits or streams, on the CPU, as tensors of their own."""
    return [made.cpu().clone() for made in how(*of, *given)]


def likelihoods(logits: Tensor, ids: Tensor, keep: int) -> Tensor:
    """The log-probabilities of the last `keep - 1` tokens of ids, [rows keep-1]."""
    wanted = ids[:, 1 - keep :, None].to(logits.device)
    logprobs = logits[:, -keep:][:, :-1].float().log_softmax(-1)
    return logprobs.gather(-1, wanted)[..., 0].cpu().clone()


def without_likeliest(logits: Tensor) -> list[int]:
    """The rows of which no token is the likeliest: their last logits are not finite."""
    sound = logits[:, -1].amax(-1).isfinite().tolist()
    return [row for row, good in enumerate(sound) if not good]


def sample(logits: Tensor, temperature: float, noise: Any) -> None:
    """Leave each row one possible token: the likeliest, or with Gumbel noise of the row's own seed a sample."""
    last = logits[:, -1]
    uniform = torch.stack([torch.rand(last.shape[-1], generator=g, dtype=torch.float64) for g in noise])
    gumbel = -(-uniform.clamp_min(1e-300).log()).log()
    chosen = (last.float().double().cpu() / temperature + gumbel).argmax(-1, keepdim=True)
    logits[:, -1] = torch.full_like(last, -torch.inf).scatter(1, chosen.to(last.device), 0.0)


def tell(kind: str, *what: Any) -> None:
    """Print a line that the client understands, which it has a moment later."""
    print(MARK + json.dumps([kind, *what]), flush=True)
