"""A check: a function of the evidence with a name and a place in the order, the same for built-in and for users' ones.

It imports next to nothing, so that a user's module can be loaded where only its preprocessing functions are wanted.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import Any

from edge_exray import errors

STAGES = ("inputs", "constants", "conversion", "quantization", "kernels", "outputs")
"""What a model can fail by, cheap and causal first: the first check that failed is nearest to the cause."""


@dataclasses.dataclass(frozen=True)
class Check:
    """A named rule over the evidence of a replay.

    Attributes:
        name: Identifier, which its results carry too.
        after: The stage at whose end it runs, or the name of the check that it runs right after.
        function: Takes the `edge_exray.Evidence`. Returns an `edge_exray.CheckResult`, or a pair of it and a list of
            the layers that it suspects (`edge_exray.Suspect`), or None when the check does not apply.
    """

    name: str
    after: str
    function: Callable[[Any], Any]

    def __call__(self, evidence: Any) -> Any:
        """Calls the function."""
        return self.function(evidence)

    @property
    def source(self) -> tuple[str, int]:
        """The file and the line where it was written; an unknown file and line 0 when it has none."""
        written = self.function if hasattr(self.function, "__code__") else type(self.function)
        try:
            return inspect.getsourcefile(written) or "an unknown file", inspect.getsourcelines(written)[1]
        except (OSError, TypeError):
            return "an unknown file", 0

    @property
    def place(self) -> str:
        """The source in words."""
        return "{}, line {}".format(*self.source)


def check(after: str, *, name: str | None = None) -> Callable[[Callable[..., Any]], Check]:
    """Makes a check of a function or of a class with `__call__`; both take the evidence, see `Check`.

    ```python
    @edge_exray.check(after="quantization")
    def finite_gain(evidence: edge_exray.Evidence) -> edge_exray.CheckResult | None: ...
    ```

    A decorated class is made without arguments; `check(after)(MyCheck(limit=3))` takes an instance with some.

    Args:
        after: One of `STAGES`, at whose end it runs, or the name of a check, which it follows.
        name: Its identifier; None takes the name of the function or, in snake case, of the class.

    Raises:
        ModuleError: It is put on something that cannot be called, or used without `after`, or a function of this name
            in the same module is a check already.
    """
    if not isinstance(after, str):
        raise errors.ModuleError(f'@edge_exray.check needs a place: write @edge_exray.check(after="{STAGES[-1]}")')

    def make(function: Callable[..., Any]) -> Check:
        if not callable(function):
            raise errors.ModuleError(f"@edge_exray.check(after={after!r}) is for functions and classes, not {function}")
        own = getattr(function, "__name__", type(function).__name__)
        called: Any = function() if inspect.isclass(function) else function
        made = Check(name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", own).lower(), after, called)
        # Python lets a second definition silently take the place of the first, which then never runs.
        earlier = getattr(inspect.getmodule(function), own, None)
        if isinstance(earlier, Check) and earlier.source != made.source:
            raise errors.ModuleError(f"there is already a check {own}, {earlier.place}; rename one of them")
        return made

    return make
