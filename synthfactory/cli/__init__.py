"""The command line: one function per verb, everything heavy imported when it is needed."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from synthfactory import __version__
from synthfactory.errors import SynthfactoryError, did_you_mean

VERBS_BY_USE = "run, plan, status, verify, keys new, policy explain, ..."
# What a command's end means; docs/command-line.md holds the same table.
EXIT_MEANINGS = {
    0: "done: certified, verified, written",
    1: "a run failed, a release does not hold, or `doctor` found what would make runs fail",
    2: "the input is at fault: a table, a setting, a key, a full disk; nothing half-written",
    3: "the policy refused: the report says which rules, and by how much",
    75: "asked to stop before the end; the same command continues",
    130: "interrupted; the same command continues",
}
EXIT_CODES = "exit codes:\n" + "".join(
    f"  {code:<4} {meaning}\n" for code, meaning in EXIT_MEANINGS.items()
)

RUN_HELP = """Make synthetic data: `synthfactory run [setting=value ...]`.

examples:
  synthfactory run                                    the embedded Adult table, end to end
  synthfactory run dataset.path=patients.parquet dataset.target=outcome generator=tvae
  synthfactory run generator=tvae policy=sf2
  synthfactory run --multirun dataset=adult,shoppers generator=ctgan,tvae seed=0,1

The same command continues what was interrupted, and returns at once when all is done.
"""

SAMPLE_HELP = """Draw more rows from a run's model: `synthfactory sample RUN --rows N`.

examples:
  synthfactory sample runs/RUN --rows 1_000_000
  synthfactory sample runs/RUN --rows 1_000_000_000 cluster.n_workers=4 -o /scratch/rows
  synthfactory sample runs/RUN --rows 50_000 --where sex=Female --where age=30..40

The rows are Parquet files under data/, with their digests in manifest.json.  The same command
continues what was interrupted; neither the number of workers nor the cluster changes a byte.
"""


SUBMIT_HELP = """Make synthetic data in one batch job: `synthfactory submit [setting=value ...]`.

The job holds the scheduler and all workers, stops in time, and queues itself again until all
is done.  Run it on a login node; `synthfactory status` and `logs` read the folder of runs.

examples:
  synthfactory submit site=leonardo_booster cluster.account=myproject generator=ctgan
  synthfactory submit site=devcluster --multirun generator=ctgan,tvae seed=range(0,8)
  synthfactory submit site=lumi_g cluster.account=project_1 cluster.nodes=2 --show
"""


DOCTOR_HELP = """Look whether this machine is fit for runs, and say what to do where it is not.

It changes nothing.  It exits with 1 when something would make runs fail; notes and warnings stop
nobody.  Ask it on a login node and on a node of each kind that you use:

  synthfactory doctor
  synthfactory doctor --runs /project/me/runs --key issuer.pem
  srun --gres=gpu:1 synthfactory doctor --json
"""

COMPLETION_HELP = """Print a script that completes verbs, options, settings and their values.

  bash  synthfactory completion bash > ~/.local/share/bash-completion/completions/synthfactory
  zsh   synthfactory completion zsh > FOLDER/_synthfactory      (a folder in $fpath)
  fish  synthfactory completion fish > ~/.config/fish/completions/synthfactory.fish
"""

DASHBOARD_HELP = """Compare many runs: `synthfactory dashboard RUNS -o site/`.

The site opens from a disk or any web server, and holds aggregates only.  The same command brings
it up to date and reads only the runs that changed.  With --serve it is shown on this machine
until Ctrl-C and made anew every few seconds, while a campaign runs; from elsewhere, forward the
port: ssh -L 8000:127.0.0.1:8000 HOST.

examples:
  synthfactory dashboard runs/ -o site/
  synthfactory dashboard runs/ -o site/ --serve --port 8000
"""


ATTEST_HELP = """Sign a decided run in your role: `synthfactory attest RUN --role evaluator`.

The generator signs how the data were made, the evaluator what the tests found.  What a role has
signed is kept in the run and used by `synthfactory issue`, which makes the release.  The evaluator
needs the run's folder, not the confidential table: who is to judge findings that they did not
make should first repeat the evaluation.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parse(argv)
    try:
        code: int = arguments.verb(arguments)
    except SynthfactoryError as error:
        print(f"synthfactory: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("synthfactory: interrupted; the same command continues.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return code


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Like ``parse_args``, but settings may stand before, between and after options."""
    grammar = parser()
    arguments, rest = grammar.parse_known_args(argv)
    if not hasattr(arguments, "verb"):
        grammar.error(f"a verb is missing: {VERBS_BY_USE}. `synthfactory --help` lists all.")
    options = [word for word in rest if word[:1] == "-"]
    if options:
        known = _options_of(grammar, sys.argv[1:] if argv is None else argv)
        told = did_you_mean(options[0].partition("=")[0], known)
        grammar.error(f"there is no option '{options[0]}'{told}")
    if rest and not hasattr(arguments, "settings"):
        grammar.error(f"expected no more words, got: {' '.join(rest)}")
    if rest:
        arguments.settings += rest
    return arguments


def _options_of(grammar: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The long options that may follow these words."""
    for word in words:
        for action in grammar._actions:
            if isinstance(action, argparse._SubParsersAction) and word in action.choices:
                grammar = action.choices[word]
    spellings = [word for action in grammar._actions for word in action.option_strings]
    return [word for word in spellings if word.startswith("--")]


class Grammar(argparse.ArgumentParser):
    """A parser that says what was probably meant."""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            what = "verb" if action.dest == "verb_name" else "choice"
            told = did_you_mean(str(value), list(map(str, action.choices)))
            raise argparse.ArgumentError(None, f"there is no {what} '{value}'{told}")


def parser() -> argparse.ArgumentParser:
    """The grammar of the command line."""
    root: argparse.ArgumentParser = Grammar(
        prog="synthfactory",
        description="Turn a confidential table into a certified synthetic dataset.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"synthfactory {__version__}")
    verbs = root.add_subparsers(title="verbs", metavar="", dest="verb_name")

    run = _verb(verbs, "run", "make a certified synthetic dataset", RUN_HELP)
    _add_settings(run)
    run.add_argument("--show", action="store_true", help="print the resolved order, make nothing")
    run.add_argument("--json", action="store_true", help="outcomes as JSON on standard output")
    run.add_argument("-q", "--quiet", action="store_true", help="no progress")
    run.set_defaults(verb=_lazily("run"))

    plan = _verb(verbs, "plan", "what `run` would make, what is there already, and why")
    _add_settings(plan)
    plan.add_argument("--json", action="store_true", help="as JSON on standard output")
    plan.set_defaults(verb=_lazily("plan"))

    submit = _verb(verbs, "submit", "make it in one batch job; comes back at once", SUBMIT_HELP)
    _add_settings(submit)
    submit.add_argument("--show", action="store_true", help="print the script, submit nothing")
    submit.add_argument("--json", action="store_true", help="as JSON on standard output")
    submit.set_defaults(verb=_lazily("submit"))

    resume = _verb(verbs, "resume", "go on with what is unfinished in a folder of runs")
    resume.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="folder of runs")
    _add_settings(resume, multirun=False)
    resume.add_argument("--json", action="store_true", help="outcomes as JSON on standard output")
    resume.add_argument("-q", "--quiet", action="store_true", help="no progress")
    resume.set_defaults(verb=_lazily("resume"))

    inspect = _verb(verbs, "inspect", "infer a dataset's columns and roles, as YAML with reasons")
    inspect.add_argument("file", type=Path, help="a CSV or Parquet file")
    inspect.add_argument("-o", "--output", type=Path, help="write here instead of the terminal")
    inspect.set_defaults(verb=_lazily("inspect"))

    sample = _verb(verbs, "sample", "draw more rows from a run's model, resumable", SAMPLE_HELP)
    sample.add_argument("run", type=Path, help="a run folder")
    sample.add_argument("settings", nargs="*", metavar="setting=value", help="where to work")
    sample.add_argument("--rows", type=_count, required=True, help="such as 1_000_000")
    sample.add_argument("--seed", type=_count, default=0, help="another seed draws other rows")
    sample.add_argument("-o", "--output", type=Path, help="default: RUN/samples/<rows>-s<seed>")
    sample.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="only such rows; a range of a numeric column as age=30..40, open as age=30..",
    )
    sample.add_argument(
        "--shortfall",
        choices=("error", "warn"),
        default="error",
        help="what to do when too few rows meet the conditions; warn keeps those that do",
    )
    sample.add_argument(
        "--config-dir", type=Path, help="a folder with your own cluster/, site/, ..."
    )
    sample.add_argument("--json", action="store_true", help="what came, as JSON on standard output")
    sample.add_argument("-q", "--quiet", action="store_true", help="no progress")
    sample.set_defaults(verb=_lazily("sample"))

    status = _verb(verbs, "status", "what is done, running, refused, failed and why")
    status.add_argument("runs", type=Path, nargs="?", default=Path("runs"), help="folder of runs")
    status.add_argument("--json", action="store_true", help="as JSON on standard output")
    status.add_argument("--prometheus", action="store_true", help="as metrics for Prometheus")
    status.set_defaults(verb=_lazily("status"))

    dashboard = _verb(verbs, "dashboard", "a static site that compares many runs", DASHBOARD_HELP)
    dashboard.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs"), help="folder of runs"
    )
    dashboard.add_argument("-o", "--output", type=Path, default=Path("site"), help="the site")
    dashboard.add_argument("--serve", action="store_true", help="show it here, kept up to date")
    dashboard.add_argument("--port", type=_count, default=0, help="for --serve; default: any free")
    dashboard.add_argument("--json", action="store_true", help="as JSON on standard output")
    dashboard.set_defaults(verb=_lazily("dashboard"))

    logs = _verb(verbs, "logs", "what happened to a run, and the end of its job's log")
    logs.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="a run, or runs")
    logs.add_argument("-n", "--lines", type=_count, default=40, help="lines of the job's log")
    logs.set_defaults(verb=_lazily("logs"))

    doctor = _verb(verbs, "doctor", "whether this machine is fit, and what to do", DOCTOR_HELP)
    doctor.add_argument("--runs", type=Path, default=Path("runs"), help="your folder of runs")
    doctor.add_argument("--key", type=Path, help="your private key; default: the development key")
    doctor.add_argument("--json", action="store_true", help="as JSON on standard output")
    doctor.set_defaults(verb=_lazily("doctor"))

    complete = _verb(verbs, "completion", "a script of completions for your shell", COMPLETION_HELP)
    complete.add_argument("shell", choices=("bash", "zsh", "fish"))
    complete.set_defaults(verb=_lazily("completion", "completion"))

    verify = _verb(verbs, "verify", "check a release offline; 0 only if everything holds")
    verify.add_argument("release", type=Path, help="a release folder")
    verify.add_argument("--issuer", help="the did:key or did:web that must have signed")
    verify.add_argument(
        "--did-document", type=Path, help="a copy of the issuer's did.json, to pin a did:web"
    )
    verify.add_argument("--status-list", type=Path, help="a fresher status list of the issuer")
    verify.add_argument("--part", help="check this part of the data alone: data/part-00017.parquet")
    verify.add_argument("--json", action="store_true", help="as JSON on standard output")
    verify.set_defaults(verb=_lazily("verify"))

    attest = _verb(verbs, "attest", "sign a decided run in your role", ATTEST_HELP)
    attest.add_argument("run", type=Path, help="a run folder")
    attest.add_argument("--role", choices=("generator", "evaluator"), required=True)
    attest.add_argument("--key", type=Path, help="your private key; default: the development key")
    attest.set_defaults(verb=_lazily("attest"))

    issue = _verb(verbs, "issue", "sign and publish the release of a run that the policy allows")
    issue.add_argument("run", type=Path, help="a run folder")
    _add_issuer(issue)
    issue.set_defaults(verb=_lazily("issue"))

    for name, change, summary in (
        ("revoke", "revoked", "withdraw a certificate for good: its status list is signed again"),
        ("suspend", "suspended", "withdraw a certificate for a time"),
        ("renew", "valid", "lift a suspension, and sign a status list that is not stale"),
    ):
        status_of = _verb(verbs, name, summary)
        status_of.add_argument("release", type=Path, help="a release folder")
        status_of.add_argument("--reason", default="", help="one line for the readers")
        _add_issuer(status_of)
        status_of.set_defaults(verb=_lazily("change_status"), change=change)

    keys = _verb(verbs, "keys", "the issuer's signing keys")
    actions = keys.add_subparsers(title="actions", metavar="")
    new = _verb(actions, "new", "make a private key, readable by you alone")
    new.add_argument("path", type=Path, help="where to write it (PEM, PKCS#8)")
    new.add_argument("--passphrase", action="store_true", help="ask for a passphrase")
    new.set_defaults(verb=_lazily("keys_new"))
    show = _verb(actions, "show", "the public identifier (did:key) of a key")
    show.add_argument("path", type=Path, nargs="?", help="default: the development key")
    show.set_defaults(verb=_lazily("keys_show"))

    policy = _verb(verbs, "policy", "what a policy asks")
    asks = policy.add_subparsers(title="actions", metavar="")
    explain = _verb(asks, "explain", "a policy in plain words, with the reason of each threshold")
    explain.add_argument(
        "name", nargs="?", default="default", help="a shipped name, or a YAML file"
    )
    explain.set_defaults(verb=_lazily("policy_explain"))
    grammar = _verb(asks, "schema", "the JSON Schema of the language of policies")
    grammar.set_defaults(verb=_lazily("policy_schema"))
    return root


def _add_issuer(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--key", type=Path, help="the issuer's key; default: the development key")
    verb.add_argument("--did", help="the did:web under which the key is published")


def _add_settings(verb: argparse.ArgumentParser, *, multirun: bool = True) -> None:
    verb.add_argument("settings", nargs="*", metavar="setting=value", help="Hydra overrides")
    if multirun:
        verb.add_argument("-m", "--multirun", action="store_true", help="make every combination")
    verb.add_argument(
        "--config-dir", type=Path, help="a folder with your own dataset/, policy/, ..."
    )


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    text: str | None = None,
) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=text or summary[:1].upper() + summary[1:] + ".",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return added


def _lazily(name: str, module: str = "verbs") -> Callable[[argparse.Namespace], int]:
    """A verb of a module of `synthfactory.cli`, imported only when it is called."""

    def call(arguments: argparse.Namespace) -> int:
        verbs = importlib.import_module(f"synthfactory.cli.{module}")
        code: int = getattr(verbs, name)(arguments)
        return code

    return call


def _count(text: str) -> int:
    """A whole number; underscores may group digits."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


_count.__name__ = "whole number"
