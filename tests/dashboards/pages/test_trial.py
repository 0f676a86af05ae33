import ast
from collections.abc import Callable
from dataclasses import replace

from dashboards import trial_page
from dashboards.differences import changes
from dashboards.pages.exports import export_row
from dashboards.pages.snippet import usages
from dashboards.pages.trial import MAX_CHANGES, measurement_row, number_rows, resource_rows
from dashboards.reasons import front_rival
from search.records import ArtefactRecord, JobRecord, LoggedWork, MeasurementRecord, TrialRecord
from space.export import FORMATS

Trials = list[TrialRecord]
NewExport = Callable[..., ArtefactRecord]


def test_numbers_are_shown_with_spread_and_how_they_were_obtained(job: JobRecord, trials: Trials) -> None:
    front = next(trial for trial in trials if trial.on_front)
    quality, latency, *rest = number_rows(job, front)
    assert (quality.name, latency.name) == ("bits per byte", "latency")
    assert latency.kind == "measured"
    assert latency.cells[0].spread.startswith("±")
    assert {row.kind for row in rest} == {"computed"}


def test_a_finalist_shows_search_final_and_test_values(
    job: JobRecord, trials: Trials, finals: Callable[..., Trials]
) -> None:
    trial = next(one for one in finals(trials) if one.final)
    html = trial_page(job, trial, [], [], trials=trials)
    assert "3 seeds, 150 steps" in html
    assert len(number_rows(job, trial)[0].cells) == 3
    assert number_rows(job, trial)[-1].cells[2].text == "–"


def test_what_a_finalist_takes_besides_time_is_said_or_why_not(
    job: JobRecord, trials: Trials, new_measurement: Callable[..., MeasurementRecord]
) -> None:
    resources = {
        "memory": {"status": "ok", "bytes": 3 * 2**20},
        "energy": {"status": "unsupported", "reason": "no energy counter may be read"},
        "quant_noise": {"status": "ok", "score": 7.0, "noise": [1e-4, 2e-3]},
    }
    latency = new_measurement(trials[0], "latency_s", 1e-3, detail={"resources": resources})
    rows = dict(resource_rows([latency]))
    assert rows["peak memory of one pass"] == "3 MiB"
    assert rows["energy of one pass"] == "unsupported: no energy counter may be read"
    assert rows["noise of the number formats"].startswith("0.002 of the logits")
    html = trial_page(job, trials[0], [latency], [], trials=trials)
    assert "<dt>peak memory of one pass</dt><dd>3 MiB</dd>" in html
    assert resource_rows([]) == []


def test_relatives_are_linked_both_ways(job: JobRecord, trials: Trials) -> None:
    child = next(trial for trial in trials if trial.parents)
    (parent,) = child.parents
    link = f'href="/jobs/{job.id}/trials/'
    assert f'{link}{parent}"' in trial_page(job, child, [], [], trials=trials)
    assert f'{link}{child.number}"' in trial_page(job, trials[parent], [], [], trials=trials)


def test_lineage_says_what_changed(job: JobRecord, trials: Trials) -> None:
    child = next(trial for trial in trials if trial.parents)
    parent = trials[child.parents[0]]
    html = trial_page(job, child, [], [], trials=trials)
    for words in changes(parent.architecture, child.architecture)[:MAX_CHANGES]:
        assert f"<li>{words}</li>" in html
    assert f"/jobs/{job.id}/compare?trials={parent.label},{child.label}" in html


def test_a_dominated_trial_leads_to_the_one_that_beats_it(job: JobRecord, trials: Trials) -> None:
    beaten = next(one for one in trials if one.state == "completed" and not one.on_front)
    rival = front_rival(job, beaten, trials)
    assert rival is not None
    assert rival.on_front
    html = trial_page(job, beaten, [], [], trials=trials)
    assert f'compare?trials={beaten.label},{rival.label}">Compare the two' in html


def test_memory_is_shown_without_any_measurement(job: JobRecord, trials: Trials) -> None:
    html = trial_page(job, trials[0], [], [], trials=trials)
    assert 'data-figure="memory"' in html
    assert "have not been measured on the job" in html
    assert 'data-figure="blocks"' not in html


def test_exports_show_state_and_a_download_only_when_ready(
    job: JobRecord, trials: Trials, new_export: NewExport
) -> None:
    trial = next(one for one in trials if one.on_front)
    done, queued = new_export(trial), new_export(trial, id="q" * 32, state="queued", size_bytes=None)
    html = trial_page(job, trial, [], [done, queued], csrf="t")
    assert f'href="/exports/{done.id}/file"' in html
    assert f"/exports/{queued.id}/file" not in html
    assert "1.177 MiB" in html
    assert "max_difference" in html
    assert 'id="exports" data-refresh-every' in html
    assert "data-refresh-every" not in trial_page(job, trial, [], [done])


def test_an_unfinished_trial_cannot_be_exported(job: JobRecord, trials: Trials) -> None:
    waiting = replace(trials[0], state="running", values={})
    html = trial_page(job, waiting, [], [])
    assert "A model can be taken once" in html
    assert f"/trials/{waiting.number}/exports" not in html


def test_measurements_keep_unit_status_and_conditions(
    trials: Trials,
    measured: Callable[[TrialRecord], list[MeasurementRecord]],
    new_measurement: Callable[..., MeasurementRecord],
) -> None:
    latency = measurement_row(measured(trials[0])[-1])
    assert latency.value.endswith(" ms")
    assert latency.conditions == "onnxruntime, threads 1, batch size 1, length 128"
    undefined = measurement_row(new_measurement(trials[0], "zico", None, status="nan"))
    assert (undefined.value, undefined.quantity) == ("nan", "zico")


def test_the_reason_stands_on_the_page(job: JobRecord, trials: Trials) -> None:
    trial = next(one for one in trials if one.on_front)
    assert "On the front: no counted trial" in trial_page(job, trial, [], [], trials=trials)


def test_every_format_says_how_it_is_used_in_lines_that_parse(trials: Trials) -> None:
    """They are those of the model card, whose tests run them."""
    found = usages(trials[0].architecture, "int8")
    assert {usage.format for usage in found} == set(FORMATS)
    for usage in found:
        codes = [text for is_code, text in usage.parts if is_code]
        assert codes
        for text in codes:
            ast.parse(text)
    assert 'InferenceSession("model.int8.onnx")' in found[0].parts[1][1]
    assert "`" not in "".join(text for usage in found for is_code, text in usage.parts if not is_code)


def test_the_check_of_an_export_is_said_file_by_file(
    job: JobRecord, trials: Trials, new_export: NewExport
) -> None:
    trial = next(one for one in trials if one.on_front)
    checked = {
        "largest_relative": 0.66,
        "rms_relative": 0.0926,
        "same_argmax": 0.912,
        "tolerance": {"of": "rms", "limit": 0.25, "reason": "8-bit weights"},
        "number_formats": ["int8_dynamic"],
        "size_bytes": 2048,
    }
    report = {
        "verification": {
            "passed": False,
            "inputs": [[1, 7], [3, 7]],
            "files": {"model.int8.onnx": checked, "model.onnx": {**checked, "rms_relative": 0.3}},
        },
        "files": {
            "model.int8.onnx": {"quality": {"values": {"bits_per_byte": 2.5}}, "latency": {"value": 0.001}}
        },
    }
    row = export_row(new_export(trial, report=report))
    assert row.verdict == (
        "2 files were reloaded and compared with the trained model on inputs of 2 shapes: "
        "not all within tolerance."
    )
    within, beyond = row.files
    assert (within.passed, within.difference, within.limit) == (True, "0.093", "0.25 of the rms logit")
    assert (within.same_answers, within.formats, within.size) == ("91.2 %", "int8", "2 KiB")
    assert within.numbers == ("bits per byte 2.5 bits", "latency 1 ms")
    assert not beyond.passed
    html = trial_page(job, trial, [], [new_export(trial, report=report)], csrf="t")
    assert "✕ 0.3" in html
    assert 'title="8-bit weights"' in html


def test_what_workers_logged_stands_on_the_page_and_cannot_run(job: JobRecord, trials: Trials) -> None:
    lines = [
        {"at": 1795409467.75, "level": "info", "text": f"step {n}\n<script>x()</script>"} for n in range(205)
    ]
    html = trial_page(job, trials[0], [], [], logs=[LoggedWork("train/a/150/0", 1, lines)])
    assert "train/a/150/0#2 step 204 &lt;script&gt;" in html
    assert "5 earlier ones" in html
    assert "2026-11-23T04:51:07.750Z info" in html
    assert "No worker has logged" in trial_page(job, trials[0], [], [])
