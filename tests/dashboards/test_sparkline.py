import re
import xml.etree.ElementTree as ET

from dashboards.sparkline import HEIGHT, WIDTH, draw_sparkline

SVG = "{http://www.w3.org/2000/svg}"


def test_the_line_rises_to_the_last_value_inside_the_picture() -> None:
    root = ET.fromstring(draw_sparkline([(1, 0.2), (4, 0.7), (10, 0.9)], 0.8))
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "hypervolume 0.900 after 10 trials, references 0.800"
    line = next(path for path in root.iter(f"{SVG}path") if path.get("class") == "spark-line")
    places = [float(number) for number in re.findall(r"[\d.]+", line.get("d", ""))]
    assert all(0 <= place <= WIDTH for place in places)
    heights = [float(number) for number in re.findall(r"V([\d.]+)", line.get("d", ""))]
    assert HEIGHT > heights[0] > heights[1] > 0


def test_without_history_there_is_nothing_and_one_point_is_enough() -> None:
    assert draw_sparkline([]) == ""
    assert ET.fromstring(draw_sparkline([(1, 0.0)])).tag == f"{SVG}svg"
