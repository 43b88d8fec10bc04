"""A curator's whole way, as docs/curators.md has it: from photographs to answers and reasons."""

import csv
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import draw, write_network
from test_documents import CURATORS, ELSEWHERE, add_environment, commands

from stages.parser.contract import MAME_MEDIUMS

MEDIUMS = MAME_MEDIUMS[:3]
# So many of each medium that 30 rows of val are there, without which nothing is called sure.
EACH = 100


def say(lines):
    """A CSV file's rows by image file."""
    return {row["image_file"]: row for row in csv.DictReader(lines)}


@pytest.mark.slow
def test_the_way_of_the_guide_leads_to_answers_and_reasons(project, tmp_path):
    add_environment(project)
    write_network(project.folder / "models/network.onnx")
    for kind, medium in enumerate(MEDIUMS):
        for number in range(EACH):
            draw(tmp_path / "photographs" / medium / f"{number}.jpg", kind, number)
        for number in range(3):
            new = tmp_path / "new_photographs" / f"192{kind}.{number}.jpg"
            draw(new, kind, EACH + number)
    asked = commands(CURATORS)
    assert asked[-1] == "python -m commands.serve"
    for command in asked:
        if command not in ELSEWHERE:
            project.run("bash", "-c", command.replace("/somewhere", str(tmp_path)))

    # The drawn mediums are easy to tell apart.
    answers = say((tmp_path / "predictions.csv").read_text(encoding="utf-8").splitlines())
    assert len(answers) == 9
    right = [MEDIUMS[int(name[3])] == row["medium"] for name, row in answers.items()]
    assert np.mean(right) > 0.7
    assert {row["unsure"] for row in answers.values()} <= {"true", "false"}
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    assert answers["1921.1.jpg"]["medium"] in page
    assert len(re.findall(r'src="data:image/jpeg;base64,', page)) >= 6

    # The same photographs again: what the run itself has said of those that it kept for test.
    again = tmp_path / "again.csv"
    project.run("python", "-m", "commands.predict", str(tmp_path / "photographs"), "-o", str(again))
    found = say(again.read_text(encoding="utf-8").splitlines())
    table = pq.read_table(project.folder / "data/predictions.parquet").to_pylist()
    of_test = [row for row in table if row["subset"] == "test"]
    assert len(of_test) == 90
    for row in of_test:
        answer = found[row["image_file"]]
        assert answer["medium"] == row["predicted"]
        assert float(answer["probability"]) == pytest.approx(row["probability"], abs=1e-5)
        assert float(answer["probability_2"]) == pytest.approx(row["second_probability"], abs=1e-5)
