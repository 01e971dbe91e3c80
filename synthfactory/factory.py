"""The factory: from an order to a certified release, the whole way on one screen.

A **table** is read and checked, **split** by person into train / control / test, a **generator**
learns from train, the model **samples** logical shards, the **evaluation** measures fidelity,
privacy leakage and utility against control and test, the **policy** decides, the **certificate**
binds data, evidence and decision under a signature, and the **release** folder is published.

Each stage reads the order and what earlier stages committed, and commits a folder of its own
atomically.  So a stage can run in any process of any cluster, be killed at any moment, and be
asked for again at no cost; and the rows of the confidential table are never written down.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthfactory import (
    __version__,
    accounting,
    artifacts,
    certification,
    generators,
    interruption,
    journal,
    provenance,
    release,
    seeds,
    shadowing,
)
from synthfactory.certification import IssuerKey, Signers, attestations
from synthfactory.certification.attestations import EVALUATOR, GENERATOR
from synthfactory.errors import Interrupted, StageError, SynthfactoryError
from synthfactory.evaluation import Evidence, conclude, measure
from synthfactory.journal import Curve, Reporter
from synthfactory.order import Order
from synthfactory.run import Outcome, Run, plan_together
from synthfactory.tables import people_of, quality_report, split_report
from synthfactory.unfinished import Course, reached, shelf_of


def produce(order: Order, runs: Path, *, key: IssuerKey | Signers) -> Outcome:
    """Make one order in this process, from the table to the release.

    Parameters
    ----------
    order
        What to make.
    runs
        The folder of all runs; what is committed there is not made again.
    key
        The issuer's key.

    Raises
    ------
    OrderError
        When the table has too few people for what the policy needs: nothing was written.
    """
    run = Run.open(order, runs)
    run.check_people()
    plan_together([run])
    for stage in STAGES:
        perform(stage, run)
    return certify(run, key)


def split(run: Run, work: Path, report: Reporter) -> None:
    """Read the table and divide it by person; only counts are written.

    Raises
    ------
    OrderError
        When the parts are too small for what the policy needs.
    """
    table, rare = run.load_table_with_changes()
    parts, policy = run.order.split.apply(table, seed=run.order.seed), run.order.policy
    policy.needs.check_people(policy.id, **people_of(parts))
    artifacts.write_json(work / "split.json", split_report(parts))
    quality = {**quality_report(table), "rare_values": rare.to_dict()}
    artifacts.write_json(work / "quality.json", quality)


def fit(run: Run, work: Path, report: Reporter) -> None:
    """Let the generator learn from the train part; an interrupted fit goes on where it was."""
    curve = Curve(run.folder)

    def listen(progress: generators.Progress) -> None:
        curve({"step": progress.step, **progress.losses})
        report("fit", progress.step / progress.steps, progress.in_words)

    train = run.load_parts().train
    model = run.order.generator.fit(
        train,
        seed=seeds.derive(run.order.seed, "fit"),
        device=run.order.device,
        threads=run.order.threads,
        callback=listen,
        checkpoint=run.checkpoint,
    )
    generators.check_fitted(model, run.order.generator, train)
    _save_fit(model, curve.reports, run.order, work)


def fit_together(runs: Sequence[Run], at_once: int | None, campaign: str = "") -> None:
    """Fit several runs that differ in their seed alone, as one ensemble; commit each one's model.

    Parameters
    ----------
    runs
        The runs; one whose fit is committed is left alone.
    at_once
        Members of an ensemble; None for 16 on a GPU, and none on a processor, where one model per
        core is faster.
    campaign
        As in `perform`.

    Raises
    ------
    Interrupted
        When the process is asked to stop; the same call goes on where it was.
    """
    waiting = [run for run in runs if not run.is_done("fit")]
    first = runs[0].order
    size = at_once or generators.members_at_once(first.device)
    for start in range(0, len(waiting), size):
        members = waiting[start : start + size]
        if len(members) < 2:
            continue
        losses: list[dict[str, float]] = []
        reports = [Reporter(run.folder) for run in members]

        def listen(
            progress: generators.Progress,
            losses: list[dict[str, float]] = losses,
            reports: list[Reporter] = reports,
        ) -> None:
            losses.append({"step": progress.step, **progress.losses})
            for report in reports:
                report("fit", progress.step / progress.steps, progress.in_words)

        kept = members[0].ensemble_checkpoint
        step = generators.step_of(kept)
        attempts = [_begin(run, "fit", campaign, step) for run in members]
        with accounting.measured() as cost:
            assert isinstance(first.generator, generators.NeuralGenerator)
            models = generators.fit_tables(
                first.generator,
                [run.load_parts().train for run in members],
                [seeds.derive(run.order.seed, "fit") for run in members],
                device=first.device,
                threads=first.threads,
                callback=listen,
                checkpoint=kept,
            )
            each = accounting.share(cost(), len(members))
            for run, model, attempt in zip(members, models, attempts, strict=True):
                artifacts.commit(
                    run.folder / "fit",
                    functools.partial(_save_fit, model, losses, run.order, ensemble=len(members)),
                    note=functools.partial(dict, each),
                )
                journal.write_event(run.folder, "committed", "fit", attempt=attempt)
        for run in members:
            run.forget_unfinished_fit()


def _save_fit(
    model: generators.Model,
    losses: Sequence[Mapping[str, float]],
    order: Order,
    work: Path,
    *,
    ensemble: int = 1,
) -> None:
    model.save(work / "model")
    generators.check_saved(model, work / "model", generators.load_model)
    engine = generators.describe_engine(order.generator, order.device, order.threads)
    artifacts.write_json(
        work / "training.json", {"losses": losses, "ensemble": ensemble, "engine": engine}
    )


def sample(run: Run, work: Path, report: Reporter) -> None:
    """Sample every logical shard into a Parquet part of its own, and list them in a manifest."""
    model = generators.load_model(run.folder / "fit" / "model")
    (work / "data").mkdir()
    for shard in run.shards:
        report("sample", shard.index / len(run.shards), shard.path)
        rows = model.sample(
            shard.n_rows,
            seed=seeds.derive(run.order.seed, "sample"),
            shard=shard.index,
            first_row=shard.first_row,
            threads=run.order.threads,
        )
        generators.check_drawn(model, rows, shard.n_rows)
        rows.write_parquet(work / shard.path)
    artifacts.write_json(work / "manifest.json", certification.build_manifest(work, model.schema))


def evaluate(run: Run, work: Path, report: Reporter, shares: Sequence[Share] = ()) -> None:
    """Measure fidelity, privacy leakage and utility of the sampled rows.

    Where other processes made ``shares`` of the measurements, only what they say together is left
    to find; the findings are the same.
    """
    course = Course(report)
    evidence = gather_evidence(run, course.within)
    suites = run.order.evaluation.suites
    made = {name: result for share in shares for name, result in share.results.items()}
    results = made or measure(evidence, suites, progress=course, shelf=shelf_of(run, evidence))
    findings = conclude(evidence, suites, results)
    artifacts.write_json(work / "findings.json", findings.to_dict())


@dataclass(frozen=True)
class Share:
    """What one process measured for others, and its cost."""

    results: Mapping[tuple[str, str], Any]
    cost: Mapping[str, Any]


def evaluate_share(run: Run, number: int, of: int) -> Share | None:
    """Every ``of``-th piece of a run's measurements; None when they are made already.

    Raises
    ------
    Interrupted
        When the process is asked to stop.
    """
    if run.is_done("evaluate"):
        return None
    report = Reporter(run.folder)
    course = Course(report)
    try:
        with report.beating(), accounting.measured() as cost:
            evidence = gather_evidence(run, course.within)
            results = measure(
                evidence,
                run.order.evaluation.suites,
                number=number,
                of=of,
                progress=course,
                shelf=shelf_of(run, evidence),
            )
            return Share(results, cost())
    except Exception:
        if not run.is_done("evaluate"):
            raise
        # Another campaign was first, and removed the folder in which this one kept its pieces.
        return None


def gather_evidence(run: Run, listen: shadowing.Listen | None = None) -> Evidence:
    """The parts of the confidential table and the sampled rows, encoded.

    Parameters
    ----------
    run
        A run whose rows are sampled.
    listen
        Hears how far a fit of shadow models is.
    """
    parts, order = run.load_parts(), run.order
    return order.evaluation.gather(
        train=parts.train,
        control=parts.control,
        test=parts.test,
        synthetic=run.load_synthetic(parts.train.schema),
        seed=run.evaluation_seed,
        threads=order.threads,
        attempts=run.plan.attempts,
        trainer=shadowing.ShadowTrainer(
            order.generator,
            parts.train.schema,
            device=order.device,
            threads=order.threads,
            folder=run.unfinished_evaluation,
            listen=listen,
        ),
        model=shadowing.Shadow(
            generators.load_model(run.folder / "fit" / "model"), threads=order.threads
        ),
    )


def decide(run: Run, work: Path, report: Reporter) -> None:
    """Let the policy decide, and write the report that says why."""
    findings = run.load_findings()
    verdict = certification.decide(findings, run.order.policy)
    table, rare = run.load_table_with_changes()
    artifacts.write_json(work / "verdict.json", verdict.to_dict())
    report_on = release.build_report(
        run.order,
        schema=table.schema,
        rare=rare,
        split=run.read("split/split.json"),
        findings=findings,
        verdict=verdict,
        manifest=run.read("sample/manifest.json"),
        losses=run.read("fit/training.json")["losses"],
    )
    release.write_report(work, report_on)


def attest(run: Run, role: str, key: IssuerKey) -> Path:
    """Sign what one role has to say about a decided run; the release takes it from the run.

    Parameters
    ----------
    run
        A run whose stages are all committed.
    role
        ``generator``: how the data were made; ``evaluator``: what the tests found.
    key
        Of whoever has the role.
    """
    sampled, report = run.folder / "sample", run.read("decide/report.json")
    if role == attestations.GENERATOR:
        made = provenance.gather(run)
        statements = [attestations.provenance(sampled, made, builder=key.did, version=__version__)]
    else:
        statements = attestations.results(sampled, report)
    path = run.attestation(role)
    attestations.write(path, [attestations.envelope(item, key) for item in statements])
    return path


def certify(run: Run, key: IssuerKey | Signers) -> Outcome:
    """Sign and publish the release, if the policy allows it.

    It runs where the order was given, so that the private key never travels to a worker.

    Parameters
    ----------
    run
        A run whose stages are all committed.
    key
        The issuer's, or the keys of the three roles; a role that has signed already keeps what it
        signed.

    Raises
    ------
    ReleaseError
        When the policy's level asks for an evaluator of their own, and there is none.
    """
    signers = certification.Signers.of(key)

    def describe(work: Path) -> None:
        release.write_metadata(
            work, publisher=signers.controller.did, period=provenance.period(run)
        )

    def assemble(work: Path) -> None:
        shutil.copytree(run.folder / "sample" / "data", work / "data")
        for source in ("sample/manifest.json", "decide/report.json", "resources.json"):
            shutil.copy(run.folder / source, work)
        release.write_page(work, run.read("decide/report.json"), run.read("resources.json"))
        signed = [run.attestation(role).read_bytes() for role in (GENERATOR, EVALUATOR)]
        (work / attestations.FILE).write_bytes(b"".join(signed))
        certification.issue_certificate(work, key=signers, plan=run.plan, describe=describe)

    _check_plugin(run)
    run.record_resources()
    if run.load_verdict().certified and not (run.folder / "release").is_dir():
        if not run.attestation(EVALUATOR).exists():
            others = (signers.generator.key_did, signers.controller.key_did)
            certification.check_evaluator(run.order.policy.level, signers.evaluator.key_did, others)
        for role, its_key in ((GENERATOR, signers.generator), (EVALUATOR, signers.evaluator)):
            if not run.attestation(role).exists():
                attest(run, role, its_key)
        artifacts.publish(run.folder / "release", assemble)
    outcome = run.outcome
    assert outcome is not None, "a decided run that is certified has a release"
    return outcome


Stage = Callable[[Run, Path, Reporter], None]

STAGES: Mapping[str, Stage] = {
    "split": split,
    "fit": fit,
    "sample": sample,
    "evaluate": evaluate,
    "decide": decide,
}


def perform(stage: str, run: Run, campaign: str | None = None, shares: Sequence[Share] = ()) -> str:
    """Run one stage and commit it; a committed stage returns at once.

    Parameters
    ----------
    stage
        One of `STAGES`.
    run
        Of which run.
    campaign
        Names the campaign, for which restarts without a step forward are counted; None for this
        process alone.
    shares
        What other processes measured for the stage ``evaluate``.

    Raises
    ------
    Interrupted
        When the process is asked to stop; the same call goes on where it was.
    SynthfactoryError
        When the stage fails; the reason is in ``failure.json`` too, where the disk allows.
    """
    if run.is_done(stage):
        return stage
    attempt = ""
    try:
        attempt = _begin(run, stage, campaign or f"{os.getpid()}", reached(run, stage))
        _check_plugin(run)
        report = Reporter(run.folder)
        report(stage)
        make = functools.partial(evaluate, shares=shares) if shares else STAGES[stage]
        with report.beating(), accounting.measured() as cost:
            manifest = artifacts.commit(
                run.folder / stage,
                lambda work: make(run, work, report),
                note=lambda: accounting.combined([*(share.cost for share in shares), cost()]),
            )
        second = manifest.get("second")
        journal.write_event(
            run.folder, "committed", stage, attempt=attempt, campaign=campaign, second=second
        )
        journal.clear_failure(run.folder)
        if stage == "fit":
            run.forget_unfinished_fit()
        if stage == "evaluate":
            run.forget_unfinished_evaluation()
    except Interrupted as error:
        if attempt:
            journal.write_event(
                run.folder,
                "interrupted",
                stage,
                attempt=attempt,
                campaign=campaign,
                why=str(error),
            )
        raise
    except Exception as error:
        journal.write_failure(run.folder, stage, error, attempt=attempt)
        if isinstance(error, SynthfactoryError):
            raise
        raise StageError(
            f"Stage '{stage}' of {run.folder.name} failed: {type(error).__name__}: {error}"
        ) from error
    return stage


def _check_plugin(run: Run) -> None:
    """Refuse to go on with another version of the package that offers the generator.

    Raises
    ------
    StageError
        With both versions.
    """
    noted, here = (
        order["generator"].get("_plugin_")
        for order in (run.read(journal.ORDER_FILE)["order"], run.order.to_dict())
    )
    if noted != here:
        raise StageError(
            f"The run began with the generator of {_in_words(noted)}, but this process has that of "
            f"{_in_words(here)}: give all workers one environment, or begin a new run."
        )


def _in_words(plugin: Mapping[str, str] | None) -> str:
    return "synthfactory" if plugin is None else f"{plugin['package']} {plugin['version']}"


def _begin(run: Run, stage: str, campaign: str, step: int) -> str:
    """Note the order and that a stage begins; returns the attempt's name."""
    if interruption.asked():
        raise Interrupted(f"Stage '{stage}' did not begin: the process was asked to stop.")
    run.record()
    held = accounting.find_allocation()
    return journal.begin_attempt(
        run.folder,
        stage,
        campaign=campaign,
        step=step,
        cpus=held.cpus,
        gpus=held.gpus * held.gpu_share,
    )
