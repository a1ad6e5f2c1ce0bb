"""Soft-target store: teachers are evaluated once, and every student reads the logits from disk."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.data import Dataset, GivenData, as_dataset
from instar.distillation.store_format import CLASSES, REST, Manifest, check_class_names
from instar.distillation.store_reading import StoredRows
from instar.distillation.store_rows import content_hashes, restore_logits
from instar.distillation.store_targets import StoreTargets
from instar.distillation.teachers import REMEMBERED_BYTES, as_networks
from instar.errors import DataError, RunError, UsageError
from instar.identity import exact, first_difference, plain
from instar.losses import LogitTargets, SoftTargets, targets_of_members
from instar.networks import network_fingerprint


@dataclass(frozen=True)
class TargetError:
    """L1 distance of stored soft targets from exact ones at a temperature, due to float16 or to the top k.

    Args:
        temperature: of the soft targets.
        max_l1: maximum over members and rows; an upper bound where it was not measured.
        mean_l1: mean over members and rows; None where it was not measured.
    """

    temperature: float
    max_l1: float
    mean_l1: float | None


@dataclass(frozen=True)
class StoreReport:
    """Sizes, and the errors of soft targets as measured when the store was written."""

    rows: int
    shards: int
    bytes: int
    errors: tuple[TargetError, ...]


class SoftTargetStore:
    """Logits of one or more teachers for each (example, view), in memory-mapped Arrow files.

    A full store has soft targets at any temperature, a top-k store only at the temperatures it was written for.
    `write` creates a store, `open` reads one. View v is the stored view v mod `num_views`.

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
        self._endings = ("",) if self.top_k is None else ("", CLASSES, REST)
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
        rows_per_shard: int | None = None,
        split: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        device: str | torch.device = "cpu",
        progress: Callable[[float], None] | None = None,
    ) -> Self:
        """Compute the teachers' logits on views 0 to views - 1 of every example, and store them.

        Repeat the call to resume a write that was killed, or to replace damaged shards; intact shards are kept.

        Args:
            path: a folder, new or with the same store.
            teachers: trained networks by their name in the store, or other teachers, as `distill` takes them.
            data: the examples, with the views that students will see (`data.with_views`).
            views: number of views of each example.
            top_k: store the k largest logits and the mass of the others; None stores all.
            dtype: "float16" or "float32", for the logits.
            temperatures: those that a top-k store can be used at; by default the error is measured at 1, 2, 4, 8
                and 20.
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
        from instar.distillation.store_writing import (  # reading needs none of it
            known_by,
            store_settings,
            write_shards,
        )

        data = as_dataset(data)
        if isinstance(teachers, Mapping):
            teachers = {name: as_networks(teacher, data) for name, teacher in teachers.items()}
        fingerprints, answers = known_by(teachers, data)
        settings = store_settings(
            fingerprints,
            data,
            answers=answers,
            views=plain(views),
            top_k=plain(top_k),
            dtype=dtype,
            temperatures=[float(T) for T in temperatures],
            rows_per_shard=plain(rows_per_shard),
            split=split,
        )
        write_shards(Path(path), settings, teachers, data, batch_size=batch_size, device=device, progress=progress)
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
        missing = [file for file in manifest.settings.files() if file not in manifest.shards]
        if missing:
            raise RunError(
                f"{path} is not finished ({len(manifest.shards)} of {len(manifest.settings.files())} shards): "
                "write it again with the same settings to resume"
            )
        return cls(manifest)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run directory knows the store by; a copy of it elsewhere is the same."""
        settings = dataclasses.asdict(self.settings)
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
        if self.top_k is not None:
            raise UsageError(f"{self.path} keeps the top {self.top_k} logits, not all: use its soft_targets")
        return self._logits(self._rows.find(ids, views), 1.0)

    def soft_targets(
        self, ids: Tensor, views: Tensor | int, temperature: float, *, mean: str = "arithmetic"
    ) -> SoftTargets | LogitTargets:
        """Soft targets of the ensemble of all members, (batch, classes), in main memory.

        Args:
            ids: (batch,) int64.
            views: view number, one for all or (batch,); v is the stored view v mod `num_views`.
            temperature: of the soft targets; `math.inf` gives the logits to match.
            mean: of the members' probabilities, "arithmetic" or "geometric".

        Raises:
            UsageError: a temperature that this top-k store was not written for, an example that is not stored.
            DataError: a shard is damaged.
        """
        self._check_temperature(temperature)
        logits = self._logits(self._rows.find(ids, views), temperature)
        return targets_of_members(logits, temperature, mean=mean)

    def targets(
        self,
        data: GivenData,
        *,
        temperature: float,
        mean: str = "arithmetic",
        device: str | torch.device = "cpu",
        remembered_bytes: int = REMEMBERED_BYTES,
    ) -> StoreTargets:
        """Soft targets for `training.fit` on `data`, which holds all of the stored examples or some of them.

        Args:
            data: the student's training data, with the stored views: `data.with_views(..., num_views=...)`.
            temperature: of the soft targets; `math.inf` gives the logits to match.
            mean: of the members' probabilities.
            device: where the student is trained.
            remembered_bytes: the most memory for prepared targets; above it, each step reads the files.

        Raises:
            UsageError: other classes, another order of them, other views, examples that are not stored or have
                other content, a temperature that this top-k store was not written for.
            DataError: a shard is damaged.
        """
        data = as_dataset(data)
        self.check_data(data)
        self._check_temperature(temperature)
        read = functools.partial(self.soft_targets, temperature=temperature, mean=mean)
        return StoreTargets(
            read,
            data,
            class_names=self.class_names,
            num_views=self.num_views,
            temperature=temperature,
            mean=mean,
            identity=self.identity,
            device=torch.device(device),
            remembered_bytes=remembered_bytes,
        )

    def check_data(self, data: GivenData) -> None:
        """Refuse data that this store was not written for.

        Raises:
            UsageError: names the difference.
        """
        data = as_dataset(data)
        check_class_names(self.path, self.class_names, tuple(data.class_names))
        here = "none" if data.views is None else f"{data.views.name} (view_seed {data.view_seed})"
        there = "none" if self.views == "none" else f"{self.views} (view_seed {self.view_seed})"
        if here != there:
            raise UsageError(f"{self.path} holds views {there}, the data has {here}; use the same")
        if data.views is not None and data.num_views != self.num_views:
            shown = "a new one in each epoch" if data.num_views is None else data.num_views
            raise UsageError(
                f"{self.path} has {self.num_views} views, the data shows {shown}: "
                f"pass num_views={self.num_views} to data.with_views"
            )
        missing = int((~torch.isin(data.ids.cpu(), self.ids)).sum())
        if missing:
            raise UsageError(
                f"{self.path} was written for other data: {missing} of the {len(data)} examples are not in it; "
                "use that data, or write a store for this data"
            )
        sampled = torch.tensor([int(example) for example in self.settings.content], device=data.ids.device)
        sampled = sampled[torch.isin(sampled, data.ids)]
        for example, content in content_hashes(data, sampled).items() if len(sampled) else ():
            if content != self.settings.content[example]:
                raise UsageError(f"{self.path}: example {example} has other content in this data; use the same")

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
        from instar.distillation.store_writing import answers_of  # reading needs none of it

        if data is not None:
            teachers = {name: as_networks(teacher, data) for name, teacher in teachers.items()}
        has_answers = data is not None and data.fingerprint == self.settings.data_fingerprint
        answers = (self.settings.answers or {}) if has_answers else {}
        for name in [*self.members, *teachers]:
            if name not in teachers or name not in self.members:
                raise UsageError(
                    f"{self.path} holds the teachers {', '.join(self.members)}, not {', '.join(teachers)}"
                )
            if network_fingerprint(teachers[name]) != self.settings.teachers[name]:
                raise UsageError(f"{self.path}: teacher {name!r} has other weights now than when it was written")
            if data is not None and name in answers:
                difference = first_difference(answers[name], answers_of(teachers[name], data), name)
                if difference:
                    raise UsageError(
                        f"{self.path}: teacher {name!r} has the same weights, and answers otherwise than when the "
                        f"store was written: {difference}"
                    )

    def check(self, *, temperature: float | None = None) -> StoreReport:
        """Read and check every shard, and report the errors of soft targets that its precision causes.

        Args:
            temperature: add the error at this temperature. Where it was not measured when a float16 store was
                written, a bound is given: with every |error of a logit| <= h, L1 <= 2 tanh(h / 2T).

        Raises:
            DataError: names the first shard that is missing or damaged, or that holds NaN or infinity.
            UsageError: the temperature is not finite and above 0, or this top-k store was not written for it.
        """
        if temperature is not None:
            if not 0 < temperature < math.inf:
                raise UsageError(f"temperature is {temperature}, expected finite and above 0")
            self._check_temperature(temperature)
        largest = 0.0
        for file, columns in StoredRows(
            self._manifest
        ).shards():  # a shard that was intact when first read may be damaged by now
            for name in self.members:
                values = columns[name]
                if not np.isfinite(values).all():
                    raise DataError(f"{self.path / file}: {name} holds NaN or infinity; write the store again")
                largest = max(largest, float(np.abs(values).max()))
        report = self.summary()
        if temperature is None or temperature in self.temperatures:
            return report
        half_step = float(np.spacing(np.float16(largest))) / 2 if self.dtype == "float16" else 0.0
        bound = TargetError(temperature, 2 * math.tanh(half_step / (2 * temperature)), None)
        return dataclasses.replace(report, errors=(*report.errors, bound))

    def summary(self) -> StoreReport:
        """Sizes and measured errors from the manifest; `check` also reads the shards."""
        shards = self._manifest.shards.values()
        errors = tuple(self._measured(place, T) for place, T in enumerate(self.temperatures))
        return StoreReport(self.settings.num_rows, len(shards), sum(shard.bytes for shard in shards), errors)

    def _measured(self, place: int, temperature: float) -> TargetError:
        shards = self._manifest.shards.values()
        mean = sum(shard.mean_l1[place] * shard.rows for shard in shards) / self.settings.num_rows
        return TargetError(temperature, max(shard.max_l1[place] for shard in shards), mean)

    def _check_temperature(self, temperature: float) -> None:
        if self.top_k is not None and temperature not in self.temperatures:
            written_for = ", ".join(f"{T:g}" for T in self.temperatures)
            raise UsageError(
                f"{self.path} keeps the top {self.top_k} of {len(self.class_names)} classes for the temperatures "
                f"{written_for}, not for {temperature:g}; use one of these or write a store for it"
            )

    def _logits(self, rows: NDArray[np.int64], temperature: float) -> Tensor:
        """(members, rows, classes) float32; for a top-k store, logits that are right at this temperature only."""
        members = []
        for name in self.members:
            kept = {ending: torch.from_numpy(self._rows.take(name + ending, rows)) for ending in self._endings}
            members.append(restore_logits(kept, self.settings, temperature))
        return torch.stack(members)
