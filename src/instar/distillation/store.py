"""Soft-target store: teachers are evaluated once, and every student reads the logits from disk."""

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data import Dataset, GivenData, as_dataset
from instar.distillation.readings import ReadingError, left_out
from instar.distillation.store_checks import check_data, check_teachers, reading_of, readings_at
from instar.distillation.store_format import REST, Manifest
from instar.distillation.store_reading import StoredRows, in_batch
from instar.distillation.store_report import StoreReport, check_shards, report_of, rows_in_full
from instar.distillation.store_rows import restore_logits, sparse_targets
from instar.distillation.store_targets import StoreTargets
from instar.distillation.teachers import REMEMBERED_BYTES, as_networks
from instar.errors import DataWarning, RunError, UsageError
from instar.identity import exact
from instar.losses import AnyTargets, HeadTargets, targets_of_members

_SMALL_MASS, _SOME_ROWS = 0.01, 1024


class SoftTargetStore:
    """Logits of one or more teachers for each (example, view), in memory-mapped Arrow files.

    A full store has soft targets at any temperature, a top-k store only at the temperatures it was written for.
    `write` creates a store, `open` reads one. View v is the stored view v mod `num_views`. Over a vocabulary a
    store may keep the top k with draws of the others (`draws`), which is read sparse, or hidden states with the
    head (`hidden`). Of a teacher with logits for each position of a sequence it keeps all positions.

    Attributes:
        class_names: classes in the order of the logits.
        members: names of the teachers.
        num_views: number of stored views.
        views: the text of the views, or "none"; with `view_seed`.
        top_k: None where all classes are stored.
        dtype: "float16" or "float32".
        temperatures: for a top-k store those it can be used at, for a full store those at which its error was
            measured.

    Example:
        >>> import tempfile
        >>> from instar.data import as_dataset
        >>> data = as_dataset((torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1])))
        >>> teacher = torch.nn.Linear(3, 2)
        >>> store = SoftTargetStore.write(tempfile.mkdtemp(), {"teacher": teacher}, data)
        >>> store.logits(data.ids[:4], 0).shape, store.soft_targets(data.ids[:4], 0, 4.0).probs.shape
        (torch.Size([1, 4, 2]), torch.Size([4, 2]))
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.path, self.settings = manifest.path, manifest.settings
        self.class_names = self.settings.class_names
        self.members = tuple(self.settings.teachers)
        self.num_views, self.views = self.settings.num_views, self.settings.views
        self.view_seed = self.settings.view_seed
        self.top_k, self.dtype = self.settings.top_k, self.settings.dtype
        self.temperatures = self.settings.temperatures
        self._rows = StoredRows(manifest)

    @classmethod
    def write(
        cls,
        path: str | Path,
        teachers: Mapping[str, Any],
        data: GivenData,
        *,
        views: int = 1,
        top_k: int | None = None,
        dtype: str = "float16",
        temperatures: Sequence[float] = (),
        draws: int | None = None,
        draws_at: float | None = None,
        full_rows: int | None = None,
        hidden: bool = False,
        rows_per_shard: int | None = None,
        split: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        device: str | torch.device = "cpu",
        progress: Callable[[float], None] | None = None,
    ) -> Self:
        """Compute the teachers' logits on views 0 to views - 1 of every example, and store them.

        Repeat the call to resume a write that was killed, or to replace damaged shards; intact shards are kept. A
        teacher that gives logits (batch, length, classes) answers for each position of a sequence: those that the
        mask of the data shows are stored.

        Args:
            path: a folder, new or with the same store.
            teachers: trained networks by their name in the store, or other teachers, as `distill` takes them.
            data: the examples, with the views that students will see (`data.with_views`).
            views: number of views of each example.
            top_k: store the k largest logits and the mass of the others; None stores all.
            dtype: "float16" or "float32", for the logits.
            temperatures: those that a top-k store can be used at; by default the error is measured at 1, 2, 4, 8
                and 20.
            draws: classes to draw from those outside the top k, in each row; with a number, also 0, the store is
                read as `SparseTargets`. By default 16 in a top-k store of sequences, none in others.
            draws_at: temperature of the draws, one of `temperatures`; by default 1 where that is one, else the
                lowest.
            full_rows: rows that are kept in full too, for `left_out`; by default 16 if the store is read sparse.
            hidden: keep the hidden states before the teacher's linear head, and the head once, in place of logits.
            rows_per_shard: rows of a shard, which a kill may cost; by default 65,536, and fewer where a row has
                more than 1,024 numbers. A shard and one batch of logits are in memory while a store is written.
            split: which of the examples are validation; kept in `settings`, so that students can compare it.
            batch_size: examples in a forward pass; by default 128 on a CPU, 1000 elsewhere.
            device: where the teachers run.
            progress: called with the fraction done after each shard.

        Returns:
            The finished store.

        Raises:
            UsageError: an argument is out of its range, a teacher has other classes, the folder holds something
                else or a store with other settings (the error names the difference).
            RunError: another process is writing the store, or the disk is full.
            TrainingError: a teacher returns NaN or infinity.
        """
        from instar.distillation.store_teachers import Answers  # reading needs none of it
        from instar.distillation.store_writing import settings_of, write_shards

        data = as_dataset(data)
        if isinstance(teachers, Mapping):
            teachers = {name: as_networks(teacher, data) for name, teacher in teachers.items()}
        answers = Answers.of(teachers, data, hidden=hidden)
        about: dict[str, Any] = {
            "views": views,
            "top_k": top_k,
            "dtype": dtype,
            "temperatures": list(temperatures),
        }
        about |= {"draws": draws, "draws_at": draws_at, "full_rows": full_rows}
        settings = settings_of(answers, data, **about, rows_per_shard=rows_per_shard, split=split)
        write_shards(Path(path), settings, answers, batch_size=batch_size, device=device, progress=progress)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a finished store. Shards are read, and their checksums compared, when they are first needed.

        Raises:
            UsageError: there is no store at `path`.
            RunError: the store is not finished, or was written by a newer instar.
            DataError: the manifest is damaged.
        """
        manifest = Manifest.read(Path(path))
        settings = manifest.settings
        missing = [file for file in settings.files() if file not in manifest.shards]
        if missing or any(file not in manifest.files for file in settings.other_files()):
            raise RunError(
                f"{path} is not finished ({len(manifest.shards)} of {len(settings.files())} shards): "
                "write it again with the same settings to resume"
            )
        return cls(manifest)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run directory knows the store by; a copy of it elsewhere is the same."""
        settings = self.settings.written()
        content = json.dumps(exact(settings), sort_keys=True)
        return {"settings": hashlib.sha256(content.encode()).hexdigest(), "answers": settings["answers"]}

    @property
    def ids(self) -> Tensor:
        """(examples,) int64, ascending: the ids of the stored examples."""
        return self._rows.ids

    def logits(self, ids: Tensor, views: Tensor | int) -> Tensor:
        """Stored logits, (members, batch, classes) float32.

        Raises:
            UsageError: this is a top-k store, or an example is not stored.
            DataError: a shard is damaged.
        """
        if self.top_k is not None or self.settings.hidden_width or self.settings.num_positions:
            kept = "logits of positions" if self.top_k is None else f"the top {self.top_k} logits, not all"
            kept = "hidden states, no logits" if self.settings.hidden_width else kept
            raise UsageError(f"{self.path} keeps {kept}: use its soft_targets")
        return self._logits(self._rows.find(ids, views)[0], 1.0)

    def lengths(self, ids: Tensor) -> Tensor:
        """The number of positions of some sequences, (batch,) int64.

        Raises:
            UsageError: the store is not of sequences, or an example is not stored.
        """
        if not self.settings.num_positions:
            raise UsageError(f"{self.path} has one row for each example, no sequences")
        return self._rows.lengths(ids)

    def soft_targets(
        self,
        ids: Tensor,
        views: Tensor | int,
        temperature: float,
        *,
        mean: str = "arithmetic",
        reading: str | None = None,
    ) -> AnyTargets:
        """Soft targets of the ensemble of all members, (batch, classes), in main memory.

        Of sequences they are (batch, length, classes), where padded positions have no mass: give the loss a mask.
        A store that was written with `draws`, or of sequences with `top_k`, gives `SparseTargets`; one of hidden
        states `HeadTargets`.

        Args:
            ids: (batch,) int64.
            views: view number, one for all or (batch,); v is the stored view v mod `num_views`.
            temperature: of the soft targets; `math.inf` gives the logits to match.
            mean: of the members' probabilities, "arithmetic" or "geometric".
            reading: what the student is told of the classes outside the top k, "tail", "drawn" or "even" (see
                `SparseTargets`); by default in stores that are read sparse "drawn" at the temperature of the
                draws, else "tail". In other stores all of these classes have the same probability in
                `SoftTargets`.

        Raises:
            UsageError: a temperature that this top-k store was not written for, an example that is not stored, or
                a reading that the store has no draws for, at this temperature.
            DataError: a shard is damaged.

        Warns:
            DataWarning: no reading is given and there are no draws at this temperature, so that a part of the mass
                that matters is read as "tail".
        """
        reading = self._reading(reading, temperature)
        rows, is_there = self._rows.find(ids, views)
        targets = self._targets(rows, temperature, mean, reading)
        return targets if is_there is None else in_batch(targets, is_there)

    def targets(
        self,
        data: GivenData,
        *,
        temperature: float,
        mean: str = "arithmetic",
        reading: str | None = None,
        device: str | torch.device = "cpu",
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> StoreTargets:
        """Soft targets for `training.fit` on `data`, which holds all of the stored examples or some of them.

        Args:
            data: the student's training data, with the stored views: `data.with_views(..., num_views=...)`.
            temperature: of the soft targets; `math.inf` gives the logits to match.
            mean, reading: as for `soft_targets`.
            device: where the student is trained.
            remembered_bytes: the most memory for prepared targets; above it, each step reads the files, as it does
                where the targets are not laid out over all classes.

        Raises:
            UsageError: other classes, another order of them, other views, examples that are not stored or have
                other content, a temperature that this top-k store was not written for.
            DataError: a shard is damaged.
        """
        data = as_dataset(data)
        self.check_data(data)
        reading = self._reading(reading, temperature)
        read = functools.partial(self.soft_targets, temperature=temperature, mean=mean, reading=reading)
        is_dense = reading is None and not self.settings.hidden_width and not self.settings.num_positions
        return StoreTargets(
            read,
            data,
            class_names=self.class_names,
            num_views=self.num_views,
            temperature=temperature,
            mean=mean,
            reading=reading,
            identity=self.identity,
            device=torch.device(device),
            remembered_bytes=remembered_bytes if is_dense else 0,
        )

    def check_data(self, data: GivenData) -> None:
        """Refuse data that this store was not written for.

        Raises:
            UsageError: names the difference.
        """
        check_data(self.path, self.settings, self.ids, as_dataset(data))

    def check_teachers(self, teachers: Mapping[str, Any], data: Dataset | None = None) -> None:
        """Refuse teachers other than those of the store.

        Args:
            teachers: by their name in the store.
            data: that of the store; where it is given, the teachers' answers are compared too. Teachers that are
                no networks need it.

        Raises:
            UsageError: names the first teacher that is missing, not in the store, has other weights, or answers
                otherwise.
        """
        check_teachers(self.path, self.settings, teachers, data)

    def check(self, *, temperature: float | None = None) -> StoreReport:
        """Read and check every shard, and report the errors of soft targets that its precision causes.

        Args:
            temperature: add the error at this temperature. Where it was not measured when a float16 store was
                written, a bound is given: with every |error of a logit| <= h, L1 <= 2 tanh(h / 2T). Where hidden
                states are kept with a head W, h = max_i sum_j |W_ij| times the largest error of a state.

        Raises:
            DataError: names the first shard that is missing or damaged, or that holds NaN or infinity.
            UsageError: the temperature is not finite and above 0, or this top-k store was not written for it.
        """
        return check_shards(self._manifest, temperature)

    def left_out(
        self,
        *,
        temperature: float | None = None,
        teachers: Mapping[str, Any] | None = None,
        data: GivenData | None = None,
    ) -> list[ReadingError]:
        """Measure what each reading of the classes outside the top k leaves out, in rows whose logits are known.

        Args:
            temperature: of the targets; by default each one that the store was written for.
            teachers: by their name in the store, to be asked again for some rows of `data`, which it was written
                for; by default the rows that are kept in full are used.
            data: that of the store.

        Raises:
            UsageError: the store is no top-k store of one teacher, it was not written for the temperature, or it
                keeps no rows in full and there are no teachers.
        """
        rows, logits = rows_in_full(self._manifest, self._rows, teachers, data)
        temperatures = self.temperatures if temperature is None else (temperature,)
        kept = self._rows.take_all(self.members[0], rows.numpy())
        found: list[ReadingError] = []
        for T in temperatures:
            for reading in readings_at(self.path, self.settings, T):
                found += left_out(logits, sparse_targets(kept, self.settings, T, reading))
        return found

    def summary(self) -> StoreReport:
        """Sizes and measured errors from the manifest; `check` also reads the shards."""
        return report_of(self._manifest)

    def _reading(self, reading: str | None, temperature: float) -> str | None:
        """As `reading_of`; it is said where nobody asked for "tail" and the others have mass."""
        found = reading_of(self.path, self.settings, reading, temperature)
        if reading is None and found == "tail" and (mass := self._mass_outside[temperature]) >= _SMALL_MASS:
            warnings.warn(
                f"{self.path} has no draws at temperature {temperature:g}: the classes outside the top "
                f"{self.top_k}, {mass:.2g} of the mass, are read as one class, from which a small language model "
                "learned less than from labels; write a store with draws at this temperature, or name the "
                "reading, 'tail'",
                DataWarning,
                stacklevel=3,
            )
        return found

    @functools.cached_property
    def _mass_outside(self) -> dict[float, float]:
        """The mean mass of the classes outside the top k at each temperature, in some rows of the first shard."""
        rows = np.arange(len(self.settings.rows_of(0)))[:_SOME_ROWS]
        rest = self._rows.take(self.members[0] + REST, rows)
        return dict(zip(self.temperatures, rest.mean(0).tolist(), strict=True))

    def _logits(self, rows: NDArray[np.int64], temperature: float) -> Tensor:
        """(members, rows, classes) float32; for a top-k store, logits that are right at this temperature only."""
        kept = (self._rows.take_all(name, rows) for name in self.members)
        return torch.stack([restore_logits(one, self.settings, temperature) for one in kept])

    def _targets(self, rows: NDArray[np.int64], temperature: float, mean: str, reading: str | None) -> AnyTargets:
        """The targets of some rows, (rows, ...)."""
        if reading is not None:
            kept = self._rows.take_all(self.members[0], rows)
            return sparse_targets(kept, self.settings, temperature, reading)
        if self.settings.hidden_width:
            hidden, head = self._rows.take_all(self.members[0], rows)[""].float(), self._rows.head
            return HeadTargets(hidden, head["weight"], temperature, head.get("bias"))
        return targets_of_members(self._logits(rows, temperature), temperature, mean=mean)
