"""The exceptions of synthfactory.

Every message says what was expected, what came, and what to do about it.

::

    SynthfactoryError
    ├── UserError (ValueError)      the input is at fault: the command line exits with 2
    │   ├── OrderError              an order, override or configuration value
    │   ├── TableError              a file that is no usable table
    │   │   └── SchemaError         a table that does not fit its schema
    │   ├── PolicyError             a policy that is not in the policy language
    │   └── KeyFileError            an issuer key that is missing, unreadable or too open
    ├── StorageError (OSError)      a disk that is full, read-only or gone: exits with 2
    ├── TrainingError               a fit that diverged or ran out of its means: exits with 1
    ├── EvaluationError             a measurement that could not be made: exits with 1
    ├── StageError                  a stage of a run that failed, with its reason: exits with 1
    ├── ClusterError                workers that cannot be had, or that end at once: exits with 1
    ├── PluginError                 another package's generator that does not work: exits with 1
    ├── Interrupted                 asked to stop before the end; the same command continues: 75
    └── ReleaseError                a release folder that cannot be read or written: exits with 2

    UserWarning
    └── ShortfallWarning            fewer rows than were asked for, where that was allowed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SynthfactoryError(Exception):
    """Base of everything that synthfactory raises on purpose."""

    exit_code: int = 1


class UserError(SynthfactoryError, ValueError):
    """The input is at fault; nothing was written."""

    exit_code = 2


class OrderError(UserError):
    """An order, override or configuration value is wrong."""


class TableError(UserError):
    """A file is no table that synthfactory can work with."""


class SchemaError(TableError):
    """A table does not fit its schema."""


class PolicyError(UserError):
    """A policy is not written in the policy language."""


class KeyFileError(UserError):
    """An issuer key is missing, unreadable, or readable by others."""


class StorageError(SynthfactoryError, OSError):
    """A disk is full, read-only or gone; what was committed before is intact."""

    exit_code = 2


class TrainingError(SynthfactoryError, RuntimeError):
    """A fit diverged or ran out of its means."""


class EvaluationError(SynthfactoryError, RuntimeError):
    """A measurement could not be made; this is never read as low risk."""


class StageError(SynthfactoryError, RuntimeError):
    """A stage of a run failed."""


class ClusterError(SynthfactoryError, RuntimeError):
    """Workers cannot be had from the batch system, or end before they work."""


class PluginError(SynthfactoryError, RuntimeError):
    """A generator of another package cannot be imported, is ambiguous, or breaks the protocol."""


class Interrupted(SynthfactoryError):
    """Work was asked to stop and did so where it can go on; 75 is EX_TEMPFAIL of sysexits.h."""

    exit_code = 75


class ReleaseError(SynthfactoryError, RuntimeError):
    """A release folder cannot be read or written."""

    exit_code = 2


def expect_count(
    name: str, value: object, minimum: int, *, maximum: int | None = None, optional: bool = True
) -> None:
    """Check a whole number.

    Parameters
    ----------
    minimum, maximum
        The least and the greatest that will do.
    optional
        Whether None will do.

    Raises
    ------
    OrderError
        With what was expected and what came.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    whole = whole and (maximum is None or value <= maximum)  # type: ignore[operator]
    if not whole and not (optional and value is None):
        null = ", or null" if optional else ""
        span = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise OrderError(f"{name}: expected a whole number {span}{null}, got {value!r}.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt word: ``"; did you mean 'epochs'?"``, or the known words.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    "; did you mean 'epochs'?"
    >>> did_you_mean("zzz", ["epochs", "seed"])
    '; known: epochs, seed'
    """
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(words)}" if words else ""


class ShortfallWarning(UserWarning):
    """Fewer rows met the conditions than were asked for."""
