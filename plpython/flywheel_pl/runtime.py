"""Runs a set of Python validators over a batch of rows, within their budgets."""

from __future__ import annotations

from itertools import repeat
from json import dumps, loads

from flywheel_pl import budget, source, values
from flywheel_pl.verdict import (
    ERROR,
    FAILED,
    NONE,
    PASSED,
    SKIPPED,
    ShapeError,
    Verdict,
    clean,
    interpret,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeAlias

    Call: TypeAlias = tuple[Callable[..., object], Callable[[], None] | None]

_FIELDS = ("score", "reason", "error", "skipped", "label", "confidence", "details")


class Validator:
    """One validator version of a set."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.version = int(entry["version"])
        self.name = str(entry["name"])
        self.code: int | None = None if entry["code"] is None else int(entry["code"])
        self.function = int(entry["function"] or 0)
        self.builtin: str | None = entry["builtin"]
        self.reads = [str(name) for name in entry["reads"]]
        self.params = dumps(entry["params"])
        self.budget = budget.Budget(entry["time_ms"], entry["memory_mb"])
        self.max_chars: int = entry["max_chars"]


class ValidatorSet:
    """What a compiled statement runs: its validators, and the columns they read."""

    def __init__(self, text: str) -> None:
        spec = loads(text)
        self.columns: list[tuple[str, str]] = [(name, kind) for name, kind in spec["columns"]]
        self.validators = [Validator(entry) for entry in spec["validators"]]
        # The spec comes from tables, and tables are no reason to run anything.
        known = {"params", *(name for name, _ in self.columns)}
        for validator in self.validators:
            if not known.issuperset(validator.reads):
                raise ValueError(f'validator "{validator.name}" reads what is no column')


class Results:
    """Verdicts of a batch. ``codes`` has one byte for each row and validator, row by row.

    The other fields are None, or lists of the same length and order. ``breaches`` are the versions
    whose budget was exceeded, ``breach_errors`` how.
    """

    __slots__ = ("breach_errors", "breaches", "codes", *_FIELDS)

    def __init__(self) -> None:
        self.codes = bytearray()
        self.score: list[float | None] | None = None
        self.reason: list[str | None] | None = None
        self.error: list[str | None] | None = None
        self.skipped: list[str | None] | None = None
        self.label: list[str | None] | None = None
        self.confidence: list[float | None] | None = None
        self.details: list[str | None] | None = None
        self.breaches: list[int] | None = None
        self.breach_errors: list[str] | None = None

    def as_tuple(self) -> tuple[object, ...]:
        """In the order of the columns of flywheel._python_results."""
        return (
            bytes(self.codes), self.score, self.reason, self.error, self.skipped, self.label,
            self.confidence, self.details, self.breaches, self.breach_errors,
        )  # fmt: skip


class Runtime:
    """The validators of one process (a backend, a worker): code is compiled once.

    ``fetch`` makes the code of a validator known: it is given a code's number and has to lead to a
    call of ``define``.
    """

    def __init__(self, fetch: Callable[[int], None]) -> None:
        self._fetch = fetch
        self._watch = budget.Watch()
        self._fetched: dict[int, str] = {}
        self._sets: dict[str, ValidatorSet] = {}
        # By the function's own identity too: numbers start again in a schema that is made again.
        self._checks: dict[tuple[int, int, tuple[str, ...]], source.Check] = {}
        self._builtins: dict[tuple[str, str], Callable[..., object]] = {}
        self._spent: set[int] = set()
        self._statement = 0.0

    def define(self, code: int, body: str) -> None:
        """Hand the body of a validator over, by the number of its code."""
        self._fetched[code] = body

    def run(
        self,
        spec: str,
        texts: Sequence[list[str | None]] | None,
        rows: int,
        masks: Sequence[str | None] | None,
        paused: Sequence[int],
        statement: float,
    ) -> Results:
        """Run a set of validators over ``rows`` rows.

        ``texts`` holds a list per column of the set, ``masks`` one text per validator with "1" for
        each row it applies to (None: to all). ``paused`` versions give no verdict. A validator
        that used up its time in an earlier batch of the same ``statement`` is not tried again.
        """
        found = self._sets.get(spec)
        if found is None:
            if len(self._sets) > 100:
                self._sets.clear()
            found = self._sets[spec] = ValidatorSet(spec)
        if statement != self._statement:
            self._statement = statement
            self._spent.clear()

        batch = _Batch(found, texts or (), rows)
        active = [
            (position, validator)
            for position, validator in enumerate(found.validators)
            if validator.version not in paused
        ]
        calls = [self._prepare(validator) for _, validator in active]
        if active:
            self._watch.arm([validator.budget for _, validator in active])
        try:
            for (position, validator), call in zip(active, calls, strict=True):
                mask = masks[position] if masks else None
                if isinstance(call, str):
                    batch.fail(position, mask, f'validator "{validator.name}": {call}')
                elif validator.version in self._spent:
                    batch.fail(position, mask, _not_reached(validator))
                else:
                    self._run_one(batch, position, validator, mask, call)
        finally:
            self._watch.disarm()
        return batch.results

    def _prepare(self, validator: Validator) -> Call | str:
        """What to call for each row, or why it cannot be called."""
        try:
            if validator.builtin is not None:
                return self._prepare_builtin(validator.builtin, validator.params), None
            if validator.code is None:
                return "its code is missing: create it again"
            key = (validator.code, validator.function, tuple(validator.reads))
            check = self._checks.get(key)
            if check is None:
                self._fetch(validator.code)
                body = self._fetched.pop(validator.code)
                code = source.compile_body(body, validator.reads)
                if len(self._checks) > 1000:
                    self._checks.clear()
                check = self._checks[key] = source.Check(code)
        except Exception as error:
            return f"cannot be called: {type(error).__name__}: {clean(str(error))}"
        return check.call, check.forget

    def describe_builtin(self, module: str, params: str) -> str | None:
        """What is wrong with the params of a built-in check; None if nothing is."""
        try:
            self._prepare_builtin(module, params)
        except Exception as error:
            return clean(str(error) or type(error).__name__)
        return None

    def _prepare_builtin(self, module: str, params: str) -> Callable[..., object]:
        key = (module, params)
        call = self._builtins.get(key)
        if call is None:
            if not module.isidentifier() or module.startswith("_"):
                raise ValueError(f"there is no built-in check {module!r}")
            found = __import__(f"flywheel_pl.checks.{module}", fromlist=["prepare"])
            if len(self._builtins) > 1000:
                self._builtins.clear()
            call = self._builtins[key] = _prepare(found, loads(params))
        return call

    def _run_one(
        self, batch: _Batch, position: int, validator: Validator, mask: str | None, prepared: Call
    ) -> None:
        """Run a validator over the rows of a batch.

        Whatever may run the user's code is watched: the conversion of a value, the call, the
        message of an exception, and the release of what was made. An OutOfTime that comes a moment
        late ends up in the outermost clause.
        """
        call, forget = prepared
        watch = self._watch
        codes = bytearray([NONE]) * batch.rows
        unfit = batch.unfit(validator)
        kept = source.Interpreter()
        readers = batch.readers(validator)
        watch.begin(validator.budget)
        row = -1
        try:
            for row, arguments in enumerate(batch.arguments(validator)):
                if mask is not None and mask[row] == "0":
                    continue
                if row in unfit:
                    codes[row] = batch.put(row, position, unfit[row])
                    continue
                verdict: Verdict | None = None
                try:
                    try:
                        watch.row = row
                        result = call(
                            *(
                                arguments
                                if readers is None
                                else values.convert(validator.reads, readers, arguments)
                            )
                        )
                        if result is True:
                            code = PASSED
                        elif result is False:
                            code = FAILED
                        else:
                            verdict = interpret(result)
                            result = None
                        if forget is not None:
                            forget()
                    except BaseException as error:  # whatever the user's code raises
                        verdict = _failure(error, validator)
                        kept.restore()
                except BaseException:  # and whatever its exception does when it is looked at
                    verdict = _failure(budget.OutOfTime(), validator)
                watch.row = None
                if watch.raised_in == row and (verdict is None or not verdict.is_breach):
                    verdict = _failure(budget.OutOfTime(), validator)
                if verdict is not None:
                    if verdict.is_breach and verdict.error is not None:
                        batch.breach(validator.version, verdict.error)
                    code = batch.put(row, position, verdict)
                codes[row] = code
                if watch.exhausted:
                    self._spent.add(validator.version)
                    break
        except (Exception, budget.OutOfTime):
            watch.exhausted = True
            batch.breach(validator.version, _not_reached(validator))
        finally:
            watch.end()
            kept.restore()
        batch.codes[position :: batch.width] = codes
        if watch.exhausted:
            # The row at work has no verdict if time was up a moment after its check.
            undecided = row >= 0 and codes[row] == NONE
            batch.fail(position, mask, _not_reached(validator), start=row if undecided else row + 1)


class _Batch:
    """The rows at work and the results so far."""

    def __init__(self, found: ValidatorSet, texts: Sequence[list[str | None]], rows: int) -> None:
        self.rows = rows
        self.width = len(found.validators)
        self.results = Results()
        self.codes = self.results.codes = bytearray([NONE]) * (rows * self.width)
        self._columns = {
            name: (kind, column) for (name, kind), column in zip(found.columns, texts, strict=True)
        }
        self._lengths: dict[str, tuple[list[int], int]] = {}

    def arguments(self, validator: Validator) -> Iterable[tuple[str | None, ...]]:
        """For each row the texts that the validator's arguments are made of."""
        if not validator.reads:
            return repeat((), self.rows)
        return zip(
            *(
                repeat(validator.params, self.rows) if name == "params" else self._columns[name][1]
                for name in validator.reads
            ),
            strict=True,
        )

    def readers(self, validator: Validator) -> values.Readers | None:
        """What makes each argument of its text; None if the texts are the arguments."""
        kinds = ["json" if name == "params" else self._columns[name][0] for name in validator.reads]
        return None if set(kinds) <= {"text"} else values.readers(kinds)

    def unfit(self, validator: Validator) -> dict[int, Verdict]:
        """Rows that are decided without a call: a null text, or one that is too long."""
        found: dict[int, Verdict] = {}
        for name in validator.reads:
            if name == "params":
                continue
            nulls, longest = self._survey(name)
            if name in ("input", "output"):
                for row in nulls:
                    found.setdefault(row, Verdict(SKIPPED, skipped=f"{name} is null"))
            if longest > validator.max_chars:
                for row, text in enumerate(self._columns[name][1]):
                    if text is not None and len(text) > validator.max_chars:
                        found[row] = Verdict(
                            ERROR,
                            f'validator "{validator.name}": {name} is longer than '
                            f"{validator.max_chars} characters; raise the budget's max_chars",
                        )
        return found

    def _survey(self, name: str) -> tuple[list[int], int]:
        if name not in self._lengths:
            column = self._columns[name][1]
            nulls = [row for row, text in enumerate(column) if text is None]
            longest = max((len(text) for text in column if text is not None), default=0)
            self._lengths[name] = (nulls, longest)
        return self._lengths[name]

    def put(self, row: int, position: int, verdict: Verdict) -> int:
        """Store what a verdict has beside its code, which is returned."""
        at = row * self.width + position
        for field in _FIELDS:
            value = getattr(verdict, field)
            if value is not None:
                column = getattr(self.results, field)
                if column is None:
                    column = [None] * (self.rows * self.width)
                    setattr(self.results, field, column)
                column[at] = value
        return verdict.code

    def fail(self, position: int, mask: str | None, message: str, start: int = 0) -> None:
        """An error for each row from ``start`` on to which the validator applies."""
        verdict = Verdict(ERROR, clean(message))
        for row in range(start, self.rows):
            if mask is None or mask[row] != "0":
                self.codes[row * self.width + position] = self.put(row, position, verdict)

    def breach(self, version: int, message: str) -> None:
        """Note, once for each batch, that a validator exceeded its budget."""
        results = self.results
        if results.breaches is None or results.breach_errors is None:
            results.breaches, results.breach_errors = [], []
        if version not in results.breaches:
            results.breaches.append(version)
            results.breach_errors.append(message)


def _prepare(module: Any, params: dict[str, object]) -> Callable[..., object]:
    params.pop("side", None)
    call: Callable[..., object] = module.prepare({**module.DEFAULTS, **params})
    return call


def _not_reached(validator: Validator) -> str:
    return (
        f'validator "{validator.name}": not tried: earlier rows of the statement used up its '
        f"budget of {validator.budget.seconds * 1000:g} ms"
    )


def _failure(error: BaseException, validator: Validator) -> Verdict:
    """The verdict of a row whose check raised."""
    if isinstance(error, ShapeError):
        return Verdict(ERROR, clean(f'validator "{validator.name}": {error}'))
    message = source.explain(error, validator.name)
    if isinstance(error, budget.OutOfTime):
        message += (
            f": a row may take {validator.budget.row_seconds * 1000:g} ms, "
            f"a batch {validator.budget.seconds * 1000:g} ms"
        )
    elif isinstance(error, MemoryError):
        message += f": it needed more than {validator.budget.memory // 1024 // 1024} MB"
    verdict = Verdict(ERROR, clean(message))
    verdict.is_breach = isinstance(error, budget.OutOfTime | MemoryError)
    return verdict
