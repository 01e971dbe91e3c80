"""What each verb does; each function takes the parsed arguments and returns the exit code."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.table import Table as RichTable
from rich.text import Text

from synthfactory import artifacts, certification, interruption
from synthfactory.cli.console import MARKS, ask_passphrase, console, read_key, tell, watching
from synthfactory.errors import Interrupted, ReleaseError

LEVELS = {
    "ok": ("✔", "green"),
    "note": ("·", "cyan"),
    "warning": ("!", "yellow"),
    "problem": ("✘", "red"),
}

PLANNED = {"done": "✔", "continue": "…", "new": "+", "blocked": "✘"}

if TYPE_CHECKING:
    from pathlib import Path

    from synthfactory.run import Outcome, Run


def run(arguments: argparse.Namespace) -> int:
    """Make one order, or with --multirun every combination, and say how each ended."""
    from synthfactory.cli import compose, make

    if arguments.show:
        settings = compose.one(arguments.settings, arguments.config_dir)
        _print_json(settings.order.to_dict())
        return 0

    def make_it() -> list[Outcome]:
        if _is_sweep(arguments):
            batches = compose.many(arguments.settings, arguments.config_dir)
            return [job.return_value for batch in batches for job in batch]
        return make.make_all([compose.one(arguments.settings, arguments.config_dir)])

    return _watched(arguments, make_it)


def resume(arguments: argparse.Namespace) -> int:
    """Go on with every run of a folder that is not done, from the folder alone."""
    from synthfactory.cli import compose, make

    left = compose.unfinished(arguments.runs, arguments.settings, arguments.config_dir)
    if not left:
        console().print(Text(f"Every run in {arguments.runs} is done."))
        return 0
    return _watched(arguments, lambda: make.make_all(left))


def plan(arguments: argparse.Namespace) -> int:
    """Say what `run` with the same words would make, what is there already, and why."""
    from synthfactory.cli.jobs import describe_jobs
    from synthfactory.cli.plans import in_words
    from synthfactory.cli.plans import plan as plan_all
    from synthfactory.history import in_words as time_in_words

    settings = _all_settings(arguments)
    plans = plan_all(settings)
    first = settings[0]
    jobs = describe_jobs(first.cluster, first.site)
    if arguments.json:
        _print_json({"runs": [item.to_dict() for item in plans], "jobs": jobs})
        return 0
    screen = console(stderr=False)
    for item in plans:
        mark = PLANNED[item.state]
        screen.print(Text(f"{mark} {item.run}: {item.state}"))
        if item.cached and item.missing:
            screen.print(Text(f"    there already: {', '.join(item.cached)}"))
        if item.missing:
            screen.print(Text(f"    would run: {', '.join(item.missing)}"))
        for reason in item.reasons:
            screen.print(Text(f"    {reason}"))
        if item.left is not None:
            about = time_in_words(item.left.seconds)
            screen.print(Text(f"    about {about}, from {item.left.source}"))
    for line in (*dict.fromkeys(note for item in plans for note in item.notes), *jobs):
        screen.print(Text(line))
    counts = Counter(item.state for item in plans)
    told_states = [state for state in PLANNED if counts[state] or state != "blocked"]
    screen.print(Text(", ".join(f"{counts[state]} {state}" for state in told_states)))
    if told := in_words(plans):
        screen.print(Text(told))
    return 0


def submit(arguments: argparse.Namespace) -> int:
    """Write and submit one job for the orders; come back at once."""
    from synthfactory.cli import jobs

    said = [word for word in arguments.settings if word != "cluster=allocation"]
    arguments.settings = ["cluster=allocation", *said]
    settings = _all_settings(arguments)
    words = [*said, *(["--multirun"] if arguments.multirun else [])]
    if arguments.config_dir is not None:
        words += ["--config-dir", str(arguments.config_dir.resolve())]
    if arguments.show:
        print(jobs.script_of(settings, words, "synthfactory-%j.log"), end="")
        return 0
    campaign = jobs.submit(settings, words)
    if arguments.json:
        _print_json(campaign)
        return 0
    screen = console()
    print(campaign["job"])
    runs = settings[0].runs
    screen.print(Text(f"Job {campaign['job']} will make {len(campaign['runs'])} run(s)."))
    screen.print(Text(f"    log     {campaign['log']}"))
    screen.print(Text(f"    follow  synthfactory status {runs}"))
    screen.print(Text(f"    cancel  scancel {campaign['job']}    (submit again to go on)"))
    return 0


def logs(arguments: argparse.Namespace) -> int:
    """Show what happened to a run, and the end of the log of the job that works on it."""
    from synthfactory.cli.jobs import log_lines

    for line in log_lines(arguments.folder, arguments.lines):
        print(line)
    return 0


def _all_settings(arguments: argparse.Namespace) -> list[Any]:
    """The settings of every order that the words describe; nothing is made."""
    from synthfactory.cli import compose, make

    if not _is_sweep(arguments):
        return [compose.one(arguments.settings, arguments.config_dir)]
    token = make.action.set(list)
    try:
        batches = compose.many(arguments.settings, arguments.config_dir)
    finally:
        make.action.reset(token)
    return [job.return_value for batch in batches for job in batch]


def _is_sweep(arguments: argparse.Namespace) -> bool:
    """Whether to make every combination: said so, or meant in a batch job's command."""
    from synthfactory.cli import compose

    in_job = "cluster=allocation" in arguments.settings
    return arguments.multirun or (in_job and compose.is_sweep(arguments.settings))


def _watched(arguments: argparse.Namespace, make_it: Callable[[], list[Outcome]]) -> int:
    """Make it, show how far it is, and say how it ended; returns the exit code of the worst."""
    from synthfactory.cli import make

    interruption.listen(*interruption.EARLY_SIGNALS, signal.SIGTERM)
    with watching(arguments.quiet) as watch:
        token = make.watcher.set(watch)
        try:
            outcomes = make_it()
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
    # What can go on comes first: a batch job queues itself again.  A failure is worse than a
    # refusal, and one that is not the input's fault is the worst.
    return next(code for code in (Interrupted.exit_code, 1, 2, 3, 0) if code in codes)


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
    from synthfactory.status import read_campaigns, read_status

    states = read_status(arguments.runs)
    if arguments.prometheus:
        from synthfactory.metrics import exposition

        print(exposition(arguments.runs, states), end="")
        return 0
    if arguments.json:
        _print_json([state.to_dict() for state in states])
        return 0
    table = RichTable(box=None, padding=(0, 2, 0, 0))
    for heading in ("run", "state", "stage", "why"):
        table.add_column(heading, overflow="fold", no_wrap=heading != "why")
    for state in states:
        mark, colour = MARKS.get(state.state, ("·", "cyan"))
        table.add_row(
            Text(state.run),
            Text(f"{mark} {state.state}", style=colour),
            Text(state.stage),
            Text("\n".join(state.reasons)),
        )
    screen = console(stderr=False)
    screen.print(table if states else Text(f"No runs in {arguments.runs}."))
    begun = {state.run for state in states}
    for campaign in read_campaigns(arguments.runs):
        waiting = [name for name in campaign["runs"] if name not in begun]
        if waiting:
            screen.print(Text(f"Job {campaign['job']}: {len(waiting)} run(s) have not begun yet."))
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Look at this machine; 1 when something would make runs fail."""
    from synthfactory.cli.doctor import examine, exit_code

    findings = examine(arguments.runs, arguments.key)
    code = exit_code(findings)
    if arguments.json:
        _print_json({"ok": code == 0, "checks": [found.to_dict() for found in findings]})
        return code
    screen = console(stderr=False)
    width = max(len(found.check) for found in findings)
    for found in findings:
        mark, colour = LEVELS[found.level]
        line = Text(f"{mark} {found.check:<{width}}  ", style=colour)
        screen.print(line + Text(found.found, style=""))
        if found.remedy:
            screen.print(Text(f"{'':<{width}}    → {found.remedy}"))
    counts = {level: sum(found.level == level for found in findings) for level in LEVELS}
    screen.print(Text(", ".join(f"{count} {level}" for level, count in counts.items())))
    return code


def dashboard(arguments: argparse.Namespace) -> int:
    """Write the benchmark site, or show it on this machine until Ctrl-C."""
    from synthfactory.dashboard import Built, build, serve

    def told(address: str, built: Built) -> None:
        if arguments.json:
            _print_json({**built.to_dict(), "address": address})
            sys.stdout.flush()
            return
        screen = console()
        screen.print(
            Text(
                f"{built.runs} run(s), {built.read} read anew, in {built.seconds:.2f} s: {address}"
            )
        )
        for name in built.unreadable:
            screen.print(Text(f"    not read, a file of it is damaged: {name}"))

    if not arguments.serve:
        built = build(arguments.runs, arguments.output)
        told(str(arguments.output / "index.html"), built)
        return 0
    # Ctrl-C is how this ends, so it is no interruption.
    with contextlib.suppress(KeyboardInterrupt):
        serve(arguments.runs, arguments.output, port=arguments.port, ready=told)
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """Check a release; one line per failed check."""
    try:
        verification = certification.verify(
            arguments.release,
            issuer=arguments.issuer,
            did_document=arguments.did_document,
            status_list=arguments.status_list,
            part=arguments.part,
        )
    except OSError as error:
        raise ReleaseError(f"Cannot read {arguments.release}: {error}.") from error
    if arguments.json:
        _print_json(verification.to_dict())
    else:
        for line in verification.lines:
            print(line)
    return 0 if verification.ok else 1


def attest(arguments: argparse.Namespace) -> int:
    """Sign what one role has to say about a decided run."""
    from synthfactory import factory

    key = read_key(arguments.key)
    path = factory.attest(_decided(arguments.run), arguments.role, key)
    console().print(Text(f"Signed as {arguments.role} by {key.did}: {path}"))
    return 0


def issue(arguments: argparse.Namespace) -> int:
    """Sign and publish the release of a decided run."""
    from synthfactory import factory

    outcome = factory.certify(_decided(arguments.run), read_key(arguments.key, arguments.did))
    tell([outcome])
    return outcome.exit_code


def change_status(arguments: argparse.Namespace) -> int:
    """Sign a release's status list again, with the certificate's bit set or not."""
    listed = certification.set_status(
        arguments.release,
        arguments.change,
        key=read_key(arguments.key, arguments.did),
        reason=arguments.reason,
    )
    console().print(
        Text(
            f"The certificate is {arguments.change}: {arguments.release / 'status.json'}, valid "
            f"until {listed['validUntil']}. Put this file where your readers look."
        )
    )
    return 0


def _decided(folder: Path) -> Run:
    """The run of a folder whose stages are all committed."""
    from synthfactory.cli.compose import reopen
    from synthfactory.journal import STAGES

    run = reopen(folder)
    if left := [stage for stage in STAGES if not run.is_done(stage)]:
        raise ReleaseError(
            f"{folder} is not decided yet: {', '.join(left)} is left. "
            f"Go on with: synthfactory resume {folder.parent}"
        )
    return run


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


def policy_schema(arguments: argparse.Namespace) -> int:
    """Print the JSON Schema of policies."""
    from synthfactory.certification.policy import schema

    _print_json(schema())
    return 0


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    print()
