"""What each verb does; each function takes the parsed arguments and returns the exit code."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.table import Table as RichTable
from rich.text import Text

from synthfactory import artifacts, certification
from synthfactory.cli.console import MARKS, ask_passphrase, console, tell, watching
from synthfactory.errors import ReleaseError


def run(arguments: argparse.Namespace) -> int:
    """Make one order, or with --multirun every combination, and say how each ended."""
    from synthfactory.cli import compose, make

    if arguments.show:
        settings = compose.one(arguments.settings, arguments.config_dir)
        _print_json(settings.order.to_dict())
        return 0
    with watching(arguments.quiet) as watch:
        token = make.watcher.set(watch)
        try:
            if arguments.multirun:
                batches = compose.many(arguments.settings, arguments.config_dir)
                outcomes = [job.return_value for batch in batches for job in batch]
            else:
                outcomes = make.make_all([compose.one(arguments.settings, arguments.config_dir)])
        finally:
            make.watcher.reset(token)
    if arguments.json:
        _print_json(
            [
                {
                    "run": outcome.run,
                    "folder": str(outcome.folder),
                    "state": outcome.state,
                    "reasons": list(outcome.reasons),
                }
                for outcome in outcomes
            ]
        )
    else:
        tell(outcomes)
    codes = {outcome.exit_code for outcome in outcomes}
    # A failure is worse than a refusal, and one that is not the input's fault is the worst.
    return next(code for code in (1, 2, 3, 0) if code in codes)


def inspect(arguments: argparse.Namespace) -> int:
    """Infer a dataset YAML; print it or write it."""
    from synthfactory.tables import inspect_file

    name = arguments.output.stem if arguments.output else None
    text = inspect_file(arguments.file, name=name)
    if arguments.output is None:
        print(text, end="")
    else:
        artifacts.write_atomic(arguments.output, text.encode())
        console().print(Text(f"Wrote {arguments.output}. Read its reasons, change what is wrong."))
    return 0


def sample(arguments: argparse.Namespace) -> int:
    """Draw rows from a run's model; parts that exist are kept."""
    from synthfactory.cli.sampling import sample_rows

    made = sample_rows(arguments)
    if arguments.json:
        _print_json(made.to_dict())
    else:
        screen = console()
        screen.print(
            Text(
                f"{made.n_rows:,} rows in {made.n_parts} parts ({made.written} parts written, "
                f"{made.kept} were there): {made.folder}"
            )
        )
        screen.print(Text(f"    root    {made.merkle_root}"))
        screen.print(Text("These rows were not evaluated: no certificate covers them."))
    return 0


def status(arguments: argparse.Namespace) -> int:
    """List the runs of a folder, from their files alone."""
    from synthfactory.status import read_status

    states = read_status(arguments.runs)
    if arguments.json:
        _print_json([state.to_dict() for state in states])
        return 0
    table = RichTable(box=None, padding=(0, 2, 0, 0))
    for heading in ("run", "state", "stage", "why"):
        table.add_column(heading, overflow="fold")
    for state in states:
        mark, colour = MARKS.get(state.state, ("·", "cyan"))
        table.add_row(
            Text(state.run),
            Text(f"{mark} {state.state}", style=colour),
            Text(state.stage),
            Text("\n".join(state.reasons)),
        )
    console(stderr=False).print(table if states else Text(f"No runs in {arguments.runs}."))
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Check a release; one line per failed check."""
    try:
        verification = certification.verify(arguments.release, issuer=arguments.issuer)
    except OSError as error:
        raise ReleaseError(f"Cannot read {arguments.release}: {error}.") from error
    if arguments.json:
        _print_json(verification.to_dict())
    else:
        for line in verification.lines:
            print(line)
    return 0 if verification.ok else 1


def keys_new(arguments: argparse.Namespace) -> int:
    """Make an issuer key."""
    passphrase = ask_passphrase() if arguments.passphrase else None
    key = certification.new_key(arguments.path, passphrase=passphrase)
    print(key.did)
    console().print(
        Text(
            f"Wrote {arguments.path}, readable by you alone. Use it with "
            f"issuer.key={arguments.path}; tell others the line above, so that they can check "
            "your releases with: synthfactory verify RELEASE --issuer DID"
        )
    )
    return 0


def keys_show(arguments: argparse.Namespace) -> int:
    """Print a key's public identifier."""
    if arguments.path is None:
        print(certification.development_key().did)
    else:
        print(certification.load_key(arguments.path, passphrase=ask_passphrase).did)
    return 0


def policy_explain(arguments: argparse.Namespace) -> int:
    """Say what a policy asks, and why."""
    print(certification.load_policy(arguments.name).explain())
    return 0


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()
