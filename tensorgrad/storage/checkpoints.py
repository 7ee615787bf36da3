"""`Checkpoint`: the newest states of a training, in a folder."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..tables import wrapped
from .atomic import PathLike, sync_folder
from .files import naming, read, save
from .nesting import require_restorable, restore

if TYPE_CHECKING:
    from pathlib import Path


class Checkpoint:
    """A folder with the newest `keep` states of a training, from which it resumes bit for bit.

    `objects` are all that changes: model, optimizer, schedule, `tg.data.batches`, averages,
    generators, a `History`, lists and dicts of numbers. `save(step)` writes their state to a new
    file, and returns when it is on the disk. `load()` restores the newest undamaged state.

    >>> model = tg.MLP(2, [8, 1], rng=0)
    >>> optimizer = tg.optim.Adam(model.parameters())
    >>> checkpoint = tg.Checkpoint("run", model=model, optimizer=optimizer)
    >>> checkpoint.load()  # nothing yet: step 0
    0
    >>> for step in range(5):
    ...     checkpoint.save(step + 1)
    >>> [path.name for path in checkpoint.paths()]
    ['step-00000003.npz', 'step-00000004.npz', 'step-00000005.npz']
    >>> checkpoint.load()
    5
    """

    def __init__(self, directory: PathLike, /, keep: int = 3, **objects: Any) -> None:
        from pathlib import Path  # slow to import

        if not isinstance(keep, int):
            raise TypeError(
                "Checkpoint: pass objects by name, such as model=model; keep is a number of files, "
                f"not {type(keep).__name__}"
            )
        if keep < 1:
            raise ValueError(f"Checkpoint: keep must be at least 1, not {keep}")
        for name, value in objects.items():
            require_restorable(value, f"Checkpoint: {name!r}")
        self.directory = Path(directory)
        self.keep = keep
        self.objects = objects
        self._damaged: set[Path] = set()

    def __repr__(self) -> str:
        return wrapped(
            "Checkpoint(", [repr(str(self.directory)), f"keep={self.keep}", *self.objects]
        )

    def paths(self) -> list[Path]:
        """Return the files in the folder, the newest last."""
        found = self.directory.glob("step-*.npz")
        return sorted((p for p in found if re.fullmatch(r"step-\d+", p.stem)), key=_step_of)

    def save(self, step: int) -> None:
        """Write the state after `step` steps, and delete files older than the newest `keep`.

        Raises ValueError if the folder holds a later state, for instance of another training.
        """
        if step < 0:
            raise ValueError(f"Checkpoint.save: step must not be negative, not {step}")
        later = [p for p in self._whole() if _step_of(p) > step]
        if later:
            raise ValueError(
                f"Checkpoint.save: step {step} is before {later[-1]}: load() that first, or use "
                "another folder for another training"
            )
        if not self.directory.is_dir():
            self.directory.mkdir(parents=True)
            sync_folder(self.directory.parent)
        path = self.directory / f"step-{step:08}.npz"
        save(path, self.objects, {"step": step})
        self._damaged.discard(path)
        oldest = self._whole()[-self.keep :][0]
        for old in self.paths():
            if _step_of(old) < _step_of(oldest):
                old.unlink(missing_ok=True)

    def load(self) -> int:
        """Restore the newest undamaged state, and return its step, or 0 if there is no file.

        Damaged files are skipped with a warning. If all are damaged, or the newest undamaged one
        does not fit the objects, CheckpointError is raised, and nothing is changed.
        """
        errors = []
        for path in reversed(self.paths()):
            try:
                content = read(path)
            except CheckpointError as error:
                errors.append(error)
                self._damaged.add(path)
                continue
            with naming(path):
                restore(content.tree, self.objects)
            if errors:
                faults = "; ".join(map(str, errors))
                message = f"Checkpoint.load: loaded {path}, because of damage: {faults}"
                warnings.warn(message, stacklevel=2)
            return _step_of(path)
        if errors:
            raise errors[0]
        return 0

    def _whole(self) -> list[Path]:
        """The files that are not known to be damaged."""
        return [path for path in self.paths() if path not in self._damaged]


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))
