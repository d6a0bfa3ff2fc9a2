"""Runs trees of tokens through a decoder, pack by pack, and brings the results back in order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch import Tensor

from qwen3_rag.errors import ModelCheckError, OutOfMemoryError
from qwen3_rag.inference.forward import KeyValues, forward_pack
from qwen3_rag.inference.loading import LoadedModel
from qwen3_rag.inference.local import abandoned
from qwen3_rag.inference.packing import Pack, Tree, count_tokens, pack_trees

logger = logging.getLogger(__name__)


class Engine:
    """A loaded model with its token budget.

    Args:
        loaded: The model.
        budget: Tokens per pack; halved for good when the device runs out of memory.
        show_progress: Whether to draw a progress bar (tqdm, on stderr).
    """

    def __init__(self, loaded: LoadedModel, budget: int, *, show_progress: bool = False) -> None:
        self.loaded = loaded
        self.budget = budget
        self._show_progress = show_progress

    @torch.inference_mode()
    def last_hidden_states(self, trees: Sequence[Tree]) -> Tensor:
        """Computes the normed hidden state of every leaf's last token.

        Safe to call from many threads: packs of different calls take turns, so a short call does not wait for a long one.

        Returns:
            Shape `(total leaves, hidden_size)`, float32 on the CPU, in the order of trees and leaves.

        Raises:
            OutOfMemoryError: If one leaf alone does not fit the device. What fitted is not computed again.
            ModelCheckError: If the model computes what is no number.
            CancelledError: If nobody waits for the result any more.
        """
        starts = [0, *accumulate(len(tree.leaves) for tree in trees)]
        shape = (starts[-1], self.loaded.decoder.config.hidden_size)
        out = torch.empty(shape, dtype=torch.float32, device="cpu")  # whatever the program's defaults are
        done = [0] * len(trees)  # leaves are finished in order, so a count per tree says which
        with self._progress(count_tokens(trees)) as advance:
            while any(d < len(tree.leaves) for d, tree in zip(done, trees, strict=True)):
                rest = [Tree(tree.prefix, tree.leaves[d:]) for d, tree in zip(done, trees, strict=True)]
                skipped = list(done)
                for pack, hidden in self._run(rest):
                    for leaf, row in zip(pack.leaves, hidden, strict=True):
                        out[starts[leaf.tree] + skipped[leaf.tree] + leaf.leaf] = row
                        done[leaf.tree] += 1
                    advance(len(pack.tokens))
        return out

    def _run(self, trees: Sequence[Tree]) -> Iterator[tuple[Pack, Tensor]]:
        """Yields finished packs; stops early, with a smaller budget, when memory ran out."""
        carried: KeyValues | None = None
        left = abandoned.get()
        for pack in pack_trees(trees, self.budget):
            if left is not None and left.is_set():
                raise CancelledError("nobody waits for this call any more")
            try:
                with self.loaded.lock:
                    hidden, carried = forward_pack(self.loaded.decoder, pack, carried)
                    hidden = hidden.float().cpu()
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                self._shrink(pack, error)
                return
            self._check_numbers(hidden)
            yield pack, hidden

    def _check_numbers(self, hidden: Tensor) -> None:
        if not hidden.isfinite().all():
            raise ModelCheckError(
                f"{self.loaded.name!r} computes values that are no numbers in {self.loaded.dtype}: load it with "
                "dtype='float32', or 'bfloat16' where the device has that; if they stay, its weights are damaged"
            )

    def _shrink(self, pack: Pack, error: BaseException) -> None:
        size = len(pack.tokens)
        if len(pack.leaves) == 1:
            raise OutOfMemoryError(
                f"{self.loaded.name!r} runs out of memory on one sequence of {size} tokens on {self.loaded.device}: lower "
                "max_length, use a smaller dtype, or another device"
            ) from error
        self.budget = max(1, min(self.budget, size) // 2)
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning("out of memory at %d tokens per pack, going on with %d", size, self.budget)

    @contextmanager
    def _progress(self, total: int) -> Iterator[Callable[[int], object]]:
        if not self._show_progress:
            yield lambda _tokens: None
            return
        from tqdm.auto import tqdm

        with tqdm(total=total, unit="tok", unit_scale=True, desc=self.loaded.name) as bar:
            yield bar.update


def _out_of_memory(error: BaseException) -> bool:
    """CUDA has a type for it; the CPU's allocator only a sentence."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
