"""Examples that come one by one, from many at once, answered in batches by one thread."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Asked(NamedTuple):
    examples: list[Any]
    answer: "asyncio.Future[Tensor]"


class Batcher:
    """Answers what several ask at once in one batch; belongs to one event loop.

    While a batch is computed, the next one gathers. Before it is computed it waits for a moment, but only where
    somebody is about to ask (`preparing`): whoever asks alone never waits.

    Args:
        answer: gives (examples, classes) for a list of examples; called in a thread of its own.
        most: examples of a batch; one that asks for more gets a batch for itself.
        wait_seconds: the moment.

    Example:
        >>> async def several() -> list[Tensor]:
        ...     batcher = Batcher(torch.stack, most=8, wait_seconds=0.01)
        ...     return await asyncio.gather(*(batcher.ask([torch.ones(2) * n]) for n in range(3)))
        >>> torch.cat(asyncio.run(several())).tolist()
        [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]
    """

    def __init__(self, answer: Callable[[list[Any]], Tensor], *, most: int, wait_seconds: float) -> None:
        self._answer, self._most, self._wait_seconds = answer, most, wait_seconds
        self._thread = ThreadPoolExecutor(1, "answering")
        self._waiting: list[_Asked] = []
        self._preparing = 0
        self._running: asyncio.Task[None] | None = None

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Around what somebody does who is going to `ask`."""
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    async def ask(self, examples: list[Any]) -> Tensor:
        """The answers to some examples. An error of theirs reaches whoever gave them, and nobody else."""
        asked = _Asked(examples, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await asked.answer

    async def alone(self, answer: Callable[[], Tensor]) -> Tensor:
        """What a function gives that is called in the same thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, answer)

    async def _run(self) -> None:
        while self._waiting:
            if self._preparing and sum(len(one.examples) for one in self._waiting) < self._most:
                await asyncio.sleep(self._wait_seconds)
            await self._give(self._next())

    def _next(self) -> list[_Asked]:
        """The first ones that wait, as many as one batch holds, without those who wait no longer."""
        taken, size = 0, 0
        for one in self._waiting:
            size += len(one.examples)
            if taken and size > self._most:
                break
            taken += 1
        batch, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return [one for one in batch if not one.answer.done()]

    async def _give(self, batch: list[_Asked]) -> None:
        if not batch:
            return
        examples = [example for one in batch for example in one.examples]
        try:
            found = await self.alone(lambda: self._answer(examples))
        except Exception as error:  # whatever one of the examples, or a user's network, does
            if len(batch) == 1 and not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            for one in batch if len(batch) > 1 else []:
                await self._give([one])
            return
        for one, answer in zip(batch, torch.split(found, [len(one.examples) for one in batch]), strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)
