import re

from dashboards import plotly_bundle, static_dir
from dashboards.assets import TEMPLATES, static_text


def test_the_bundle_of_the_installed_plotly_is_there() -> None:
    text = plotly_bundle().read_text(encoding="utf-8")
    assert "window.Plotly" in text
    assert "</script" not in text


def test_every_static_file_a_template_names_exists() -> None:
    named = {
        name
        for template in TEMPLATES.rglob("*.html")
        for name in re.findall(r'"/static/([\w.]+)"', template.read_text(encoding="utf-8"))
    }
    ours = {path.name for path in static_dir().iterdir()}
    assert named - {"plotly.min.js"} <= ours
    assert "plotly.min.js" not in ours


def test_the_script_can_stand_inside_a_page_and_runs_no_text() -> None:
    script = static_text("app.js")
    assert "</script" not in script
    assert not re.search(r"\beval\(|new Function|document\.write|https?://", script)
