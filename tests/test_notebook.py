"""What notebooks show by themselves: what an object is, never a value of a confidential table."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import synthfactory as sf
from synthfactory import markup
from synthfactory.errors import ReleaseError
from synthfactory.evaluation.measurement import ControlOutcome
from synthfactory.generators import TVAE, Independent, load_model

CANARY = "CANARY-4711"
EXTREME = 987_654_321


@pytest.fixture(scope="module")
def confidential(tmp_path_factory: pytest.TempPathFactory) -> sf.Table:
    """A table with a level, an identifier and an extreme that must be shown nowhere."""
    frame = pd.DataFrame(
        {
            "who": [f"{CANARY}-{number}" for number in range(300)],
            "town": ["A", "B", CANARY] * 100,
            "income": [*range(299), EXTREME],
            "<img src=x onerror=alert(1)>": [True, False, None] * 100,
        }
    )
    path = tmp_path_factory.mktemp("confidential") / "table.csv"
    frame.to_csv(path, index=False)
    return sf.read_table(path)


def shown(thing: object) -> str:
    html = thing._repr_html_() if hasattr(thing, "_repr_html_") else ""
    return repr(thing) + html


def leaks(text: str) -> bool:
    return CANARY in text or str(EXTREME) in text.replace(",", "").replace("_", "")


def test_the_canary_is_really_there(confidential: sf.Table) -> None:
    assert leaks(str(confidential.to_pandas().to_dict()))


def test_a_table_shows_columns_and_counts_and_no_value(confidential: sf.Table) -> None:
    text = shown(confidential)
    assert not leaks(text)
    assert "300 rows x 4 columns" in text
    assert "3 levels" in text
    assert "100 missing" in text
    assert "<img" not in confidential._repr_html_()
    assert not leaks(shown(confidential.head()))


def test_neither_do_its_schema_and_columns(confidential: sf.Table) -> None:
    assert not leaks(shown(confidential.schema))
    for column in confidential.schema.columns:
        assert column.kind in repr(column)
        assert not leaks(shown(column))


@pytest.mark.parametrize("spec", [Independent(), TVAE(epochs=1)], ids=["independent", "tvae"])
def test_neither_does_a_model(confidential: sf.Table, spec: sf.TVAE | sf.Independent) -> None:
    model = spec.fit(confidential, seed=0)
    assert not leaks(shown(model))
    assert "4 columns" in repr(model)
    for name in spec.hyperparameters():
        assert name in model._repr_html_()


def test_findings_show_interval_control_and_instrument(certified_run: Path) -> None:
    text = (certified_run / "evaluate" / "findings.json").read_text()
    findings = sf.Findings.from_dict(json.loads(text))
    page = findings._repr_html_()
    for item in findings.measurements:
        assert item.id in page
        assert f"{markup.short_number(item.lcb)} to {markup.short_number(item.ucb)}" in page
    assert "The instrument holds" in page
    missed = ControlOutcome(id="planted", kind="positive", flagged=False)
    broken = dataclasses.replace(
        findings, instrument=(missed,), failures={"utility.retained": "<b>no target</b>"}
    )
    assert "does NOT hold" in broken._repr_html_()
    assert "&lt;b&gt;no target" in broken._repr_html_()


def test_a_certificate_shows_what_it_claims(certified_run: Path) -> None:
    release = certified_run / "release"
    document = json.loads((release / "certificate.json").read_text())
    certificate = sf.certificate(release)
    subject = document["credentialSubject"]
    for text in (repr(certificate), certificate._repr_html_()):
        assert certificate.issuer in text
        assert subject["manifest"]["merkleRoot"] in text
        assert document["validUntil"] in text
        assert "verify" in text
    for what in subject["notAssessed"]:
        assert what in repr(certificate)
    frame = certificate.to_frame().set_index("metric")
    for item in subject["findings"]:
        assert frame.loc[item["metric"], "estimate"] == float(item["estimate"])
        assert frame.loc[item["metric"], "upperBound"] == float(item["upperBound"])


def test_a_certificate_is_found_from_its_run_its_release_and_itself(certified_run: Path) -> None:
    found = [
        sf.certificate(path).document["id"]
        for path in (
            certified_run, certified_run / "release", certified_run / "release/certificate.json",
        )
    ]  # fmt: skip
    assert len(set(found)) == 1


def test_a_changed_certificate_is_shown_but_does_not_verify(
    certified_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(certified_run / "release", tmp_path / "release")
    assert sf.certificate(tmp_path / "release").verify().ok
    path = tmp_path / "release" / "certificate.json"
    document = json.loads(path.read_text())
    document["credentialSubject"]["useClass"] = "<script>open</script>"
    path.write_text(json.dumps(document))
    certificate = sf.certificate(path)
    assert "<script>open" in repr(certificate)
    assert "<script" not in certificate._repr_html_()
    assert not certificate.verify().ok


@pytest.mark.parametrize("content", ["[]", "{", '"text"'])
def test_what_is_no_certificate_is_explained(tmp_path: Path, content: str) -> None:
    (tmp_path / "certificate.json").write_text(content)
    with pytest.raises(ReleaseError):
        sf.certificate(tmp_path)


def test_a_certificate_of_the_wrong_shape_is_shown_with_question_marks(tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_text('{"credentialSubject": {"findings": "none"}}')
    certificate = sf.certificate(tmp_path)
    assert "?" in repr(certificate)
    assert certificate._repr_html_()
    assert len(certificate.to_frame()) == 0


def test_a_refused_run_has_no_certificate(certified_run: Path) -> None:
    with pytest.raises(ReleaseError, match="a refused run has no certificate"):
        sf.certificate(certified_run / "fit")


def test_a_loaded_model_shows_the_same(certified_run: Path) -> None:
    model = load_model(certified_run / "fit" / "model")
    assert repr(model).startswith("TVAEModel(7 columns, TVAE(epochs=10")
