"""Exact gradients of a large batch through encoders that hold one micro-batch at a time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmcontrast import arguments
from mmcontrast.eager import full_precision
from mmcontrast.replay import (
    Encoder,
    States,
    frozen,
    map_leaves,
    random_states,
    restore,
    synchronised,
    tensors,
    unchanged_buffers,
    unchanged_random_states,
)
from mmcontrast.terms import LossTerms

Loss = Callable[..., Tensor | LossTerms]


class GradCache:
    """Loss and gradients of a large batch, with one micro-batch's activations in memory.

    An in-batch loss cannot be split: the mean over small batches is another loss, with fewer
    negatives. But the encoders can be. Every micro-batch is encoded without a graph; the loss is
    computed once, of all representations, and gives each of them its gradient; then every
    micro-batch is encoded again, with a graph, and passes its gradient on. Afterwards ``.grad`` has
    what ``loss.backward()`` would have added, at the cost of one more forward pass.

    Both encodings of a micro-batch draw the same random numbers (dropout) from torch's global
    generators, of the CPU and of the accelerators, which are left as if each micro-batch had been
    encoded once; and both run under the caller's autocast, as does the loss, which the losses here
    leave by themselves. A module's buffers (running statistics) change in the first encoding only.

    Args:
        encoders: by modality (a mapping, or ``nn.ModuleDict``), a callable of that modality's
            inputs, one argument. It returns representations (B, ...), one row for each row of its
            inputs: a tensor, or mappings, tuples and lists of tensors. A number among them (0-d: a
            learned temperature, say) is taken from the last micro-batch. Several modalities may
            share an encoder.
        loss: a callable of the mapping of modality to representations, in the order of
            ``encoders``; further arguments are handed through. It returns a scalar or
            :class:`LossTerms` of scalars.
        chunk_size: rows of a micro-batch; an int, or one for each modality.
        backward: how to differentiate the scalar, where ``loss.backward()`` is not it:
            ``accelerator.backward``, or ``lambda loss: scaler.scale(loss).backward()``.

    Raises:
        ValueError: no encoders, or a chunk size that is no int of at least 1.

    Example:
        >>> from mmcontrast import symmetric_info_nce
        >>> _ = torch.manual_seed(0)
        >>> encoders = {"text": nn.Linear(5, 4), "audio": nn.Linear(3, 4)}
        >>> def loss(features):
        ...     return symmetric_info_nce(features["text"], features["audio"])
        >>> cache = GradCache(encoders, loss, chunk_size=3)
        >>> batch = {"text": torch.randn(8, 5), "audio": torch.randn(8, 3)}
        >>> value = cache(batch)
        >>> cached = encoders["text"].weight.grad.clone()

        This is the gradient of the large batch. Gradients accumulated over two halves of it differ,
        because neither half has the pairs with the other one:

        >>> def gradient(*batches):
        ...     encoders["text"].zero_grad()
        ...     for part in batches:
        ...         value = loss({name: encoders[name](x) for name, x in part.items()})
        ...         (value / len(batches)).backward()
        ...     return encoders["text"].weight.grad.clone()
        >>> torch.allclose(cached, gradient(batch), atol=1e-5)
        True
        >>> halves = [{k: x[rows] for k, x in batch.items()} for rows in (slice(4), slice(4, 8))]
        >>> torch.allclose(cached, gradient(*halves), atol=0.1)
        False

    Note:
        On several ranks the loss reaches the other ranks' rows itself: by :func:`gather`, or a
        ``group=`` of its own. An encoder in DistributedDataParallel, or a module that holds one, is
        synchronised once a call, by its last micro-batch, which has to reach its parameters; the
        ranks may have different numbers of micro-batches. They need equally many where
        DistributedDataParallel is hidden in a plain function, which is synchronised every time, and
        where an encoder communicates in its forward pass (FSDP, SyncBatchNorm). A model that
        encodes several modalities in one forward pass is one encoder, with a mapping in and out.

        Different from one large forward pass: batch normalisation, which takes its statistics from
        micro-batches. Not repeated in the second encoding: random numbers of other generators
        (explicit ones, numpy's, Python's), and state that an encoder updates and computes with
        (spectral normalisation's vectors).

        An encoder with only frozen parameters, and one with representations that the loss does not
        use, runs once. The inputs may be leaves that require a gradient themselves.

    References: GradCache, arXiv:2101.06983.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder] | nn.ModuleDict,
        loss: Loss,
        *,
        chunk_size: int | Mapping[str, int],
        backward: Callable[[Tensor], Any] = Tensor.backward,
    ):
        if isinstance(encoders, nn.ModuleDict):
            encoders = dict(encoders.items())
        if not isinstance(encoders, Mapping) or not encoders:
            arguments.fail(
                "encoders",
                "a mapping of at least one modality to a callable",
                arguments.shown(encoders),
            )
        for name, encoder in encoders.items():
            if not callable(encoder):
                arguments.fail(f"encoders[{name!r}]", "a callable", type(encoder).__name__)
            if isinstance(chunk_size, Mapping):
                arguments.whole(f"chunk_size[{name!r}]", chunk_size.get(name, 0))
        if not isinstance(chunk_size, Mapping):
            arguments.whole("chunk_size", chunk_size)
        for name, value in (("loss", loss), ("backward", backward)):
            if not callable(value):
                arguments.fail(name, "a callable", arguments.shown(value))
        self.encoders = dict(encoders)
        self.loss = loss
        self.chunk_size = chunk_size
        self.backward = backward

    def __call__(self, inputs: Mapping[str, Any], *args: Any, **kwargs: Any) -> Tensor | LossTerms:
        """The loss of the whole batch, whose gradients have been added to ``.grad``.

        Args:
            inputs: by modality, what its encoder takes: a tensor (B, ...), or mappings
                (``BatchEncoding`` too), tuples and lists of tensors, which are all split along
                their first axis. Anything else in them is passed to every micro-batch unchanged. B
                may differ by modality, and an encoder's modality may be left out.
            args, kwargs: further arguments of the loss, such as labels.

        Returns:
            What the loss returns, detached. Under ``torch.no_grad()``, nothing else is done.

        Raises:
            ValueError: a modality without an encoder, no tensor to split, first axes that disagree
                within a modality, representations that are not one for each row, or a loss that is
                not a scalar.
        """
        chunks = list(self._chunks(inputs))
        features = self._encode(inputs, chunks)
        if torch.is_grad_enabled():
            for name, found in features.items():
                if not frozen(self.encoders[name], inputs[name]):
                    for x in tensors(found):
                        x.requires_grad_(x.is_floating_point() or x.is_complex())
        result = self.loss(dict(features), *args, **kwargs)
        value = result.total if isinstance(result, LossTerms) else result
        if arguments.tensor("loss", value).ndim != 0:
            arguments.fail("loss", "a scalar", f"shape {arguments.shape(value)}")
        if torch.is_grad_enabled():
            # Backward has the dtypes of forward already; autocast would lower them once more.
            with full_precision(value):
                self.backward(value)
            self._encode_again(inputs, chunks, features)
        if isinstance(result, LossTerms):
            return LossTerms({k: x.detach() for k, x in result.items()}, result.weights)
        return result.detach()

    def _chunks(self, inputs: Mapping[str, Any]) -> Iterator["_Chunk"]:
        """Every modality in chunks, an empty one in one chunk, in the same order on all ranks."""
        if not isinstance(inputs, Mapping) or not inputs:
            expected = "a mapping of at least one modality to tensors"
            arguments.fail("inputs", expected, arguments.shown(inputs))
        for name in inputs:
            arguments.one_of("inputs", name, list(self.encoders))
        for name in self.encoders:
            if name not in inputs:
                continue
            shapes = [x.shape for x in tensors(inputs[name]) if x.ndim > 0]
            if len({shape[0] for shape in shapes}) != 1:
                expected = "tensors with one first axis in common"
                arguments.fail(f"inputs[{name!r}]", expected, [tuple(shape) for shape in shapes])
            size = shapes[0][0]
            step = self.chunk_size
            if isinstance(step, Mapping):
                step = step[name]
            for start in range(0, max(size, 1), step):
                yield _Chunk(name, slice(start, min(start + step, size)), start + step >= size)

    def _encode(self, inputs: Mapping[str, Any], chunks: list["_Chunk"]) -> dict[str, Any]:
        """All representations, without a graph."""
        found: dict[str, list[Any]] = {}
        with torch.no_grad():
            for chunk in chunks:
                chunk.states = random_states()
                # A copy, because a view (of the first token's state) keeps the whole output alive.
                part = map_leaves(_copied, self._encode_one(inputs, chunk))
                found.setdefault(chunk.name, []).append(part)
            return {
                name: map_leaves(partial(_concatenated, name), *parts)
                for name, parts in found.items()
            }

    def _encode_one(self, inputs: Mapping[str, Any], chunk: "_Chunk") -> Any:
        """The representations of a micro-batch."""
        rows = chunk.rows
        found = self.encoders[chunk.name](
            map_leaves(
                lambda x: x[rows] if isinstance(x, Tensor) and x.ndim else x, inputs[chunk.name]
            )
        )
        shapes = [tuple(x.shape) for x in tensors(found)]
        size = rows.stop - rows.start
        if not shapes or any(shape and shape[0] != size for shape in shapes):
            arguments.fail(f"encoders[{chunk.name!r}]", f"representations of {size} rows", shapes)
        return found

    def _encode_again(
        self, inputs: Mapping[str, Any], chunks: list["_Chunk"], features: Mapping[str, Any]
    ) -> None:
        """Every micro-batch with a graph, which takes the gradient of its representations."""
        chunks = [c for c in chunks if any(x.grad is not None for x in tensors(features[c.name]))]
        encoders = [self.encoders[chunk.name] for chunk in chunks]
        last = {model: k for k, f in enumerate(encoders) for model in synchronised(f)}
        with unchanged_buffers(encoders), unchanged_random_states():
            for k, (chunk, encoder) in enumerate(zip(chunks, encoders, strict=True)):
                restore(chunk.states)
                with ExitStack() as stack:
                    for model in synchronised(encoder):
                        if last[model] != k:
                            stack.enter_context(model.no_sync())
                    # No variable holds the graph, so it is freed before the next one is made.
                    _backward(
                        tensors(self._encode_one(inputs, chunk)),
                        [chunk.gradient(x) for x in tensors(features[chunk.name])],
                    )


@dataclass
class _Chunk:
    """One micro-batch: which rows of which modality, and the random state before its encoding."""

    name: str
    rows: slice
    is_last: bool
    states: States = field(default_factory=list)

    def gradient(self, x: Tensor) -> Tensor | None:
        """The chunk's rows of a representation's gradient; a 0-d one belongs to the last chunk."""
        if x.grad is None or (x.ndim == 0 and not self.is_last):
            return None
        return x.grad[self.rows] if x.ndim else x.grad


def _copied(x: Any) -> Any:
    return x.clone() if isinstance(x, Tensor) else x


def _concatenated(name: str, *parts: Any) -> Any:
    """A representation of the whole batch from those of the micro-batches."""
    if not isinstance(parts[0], Tensor) or parts[0].ndim == 0:
        return parts[-1]
    if len({(x.shape[1:], x.dtype) for x in parts}) != 1:
        found = [f"{x.dtype} of shape {arguments.shape(x)}" for x in parts]
        arguments.fail(f"encoders[{name!r}]", "one shape and dtype in all micro-batches", found)
    return torch.cat(parts)


def _backward(found: list[Tensor], gradients: list[Tensor | None]) -> None:
    """Backward from representations that have a graph, outside autocast as for the loss."""
    pairs = [(x, g) for x, g in zip(found, gradients, strict=True) if x.requires_grad]
    pairs = [(x, g) for x, g in pairs if g is not None]
    if pairs:
        with full_precision(pairs[0][0]):
            torch.autograd.backward([x for x, _ in pairs], [g for _, g in pairs])
