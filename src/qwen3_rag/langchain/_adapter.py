"""What the adapters around one model have in common."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from qwen3_rag.backends import SECRET_OPTIONS
from qwen3_rag.prompts import check_instruction

_PLAIN = (str, int, float, bool, os.PathLike)


class ModelAdapter(BaseModel):
    """A model as the user named it, with the core object that runs it.

    Instances are frozen: `with_instruction` makes a changed copy that shares the weights, and so do `copy` and
    `deepcopy`. A pickle holds the model as it was given, usually a name, and never weights or keys.

    Attributes:
        model: What the constructor was given.
        instruction: The instance's own instruction; `None` is the model's.
    """

    # What is no field of an adapter is an option of the local model, which knows and checks its own.
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow", frozen=True)

    model: Any
    instruction: str | None = None

    _core: Any = None

    def __init__(self, model: Any, *, instruction: str | None = None, **values: Any) -> None:
        if instruction is not None:
            check_instruction(instruction)
        secrets = {name: values.pop(name) for name in SECRET_OPTIONS & values.keys()}
        super().__init__(model=model, instruction=instruction, **values)
        self._core = self._load(**secrets)

    @abstractmethod
    def _load(self, **secrets: Any) -> Any:
        """Returns the core object; loads no weights. A copy out of a pickle finds its key in the environment."""

    def with_instruction(self, instruction: str) -> Self:
        """Returns a copy under another instruction that shares the weights with this one.

        Raises:
            ConfigurationError: If the instruction is blank.
        """
        return self.model_copy(update={"instruction": check_instruction(instruction)})

    @property
    def model_name(self) -> str:
        """Name of the model for people and traces."""
        return os.fspath(self.model) if isinstance(self.model, (str, os.PathLike)) else str(self._core.model_id)

    @property
    def _options(self) -> dict[str, Any]:
        return self.model_extra or {}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # A ready-made model or a full cache would fill the screen, and traces with it.
        for name, value in super().__repr_args__():
            if value is not None:
                yield name, value if isinstance(value, _PLAIN) else type(value)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.model_copy()

    def __getstate__(self) -> dict[Any, Any]:
        return {**super().__getstate__(), "__pydantic_private__": {}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self._core = self._load()
