from dashboards.figures import importance_figure
from dashboards.figures.importance import SHOWN_GENES, shown_genes, too_few_words
from search.importance import GeneImportance, Importance

GENES = tuple(GeneImportance(f"g{i}", f"gene {i}", share, 0.1) for i, share in enumerate((0.6, 0.3, 0.05)))
FOUND = [
    Importance("bits_per_byte", 40, GENES),
    Importance("latency_s", 41, (GeneImportance("w", "width", 0.9, 0.2), GENES[2])),
]


def test_every_objective_has_a_bar_per_gene_and_its_number_of_trials() -> None:
    quality, latency = importance_figure(FOUND).data
    assert list(quality.y) == list(latency.y) == ["width", "gene 0", "gene 1", "gene 2"]
    assert list(quality.x) == [0, 60, 30, 5]
    assert list(latency.x) == [90, 0, 0, 5]
    assert "40 trials" in quality.name
    assert "41 trials" in latency.name
    assert quality.marker.pattern.shape != latency.marker.pattern.shape


def test_what_chance_explains_is_pale_and_says_so() -> None:
    quality, _ = importance_figure(FOUND).data
    assert list(quality.marker.opacity) == [0.3, 1.0, 1.0, 0.3]
    assert list(quality.text) == ["", " 60 %", " 30 %", " within chance"]


def test_only_the_genes_that_matter_most_are_shown() -> None:
    many = tuple(GeneImportance(f"g{i}", f"gene {i}", i / 100, 0.0) for i in range(30))
    titles = shown_genes([Importance("loss", 99, many)])
    assert titles == [f"gene {i}" for i in range(29, 29 - SHOWN_GENES, -1)]


def test_too_few_trials_say_how_many_there_are() -> None:
    found = [Importance("loss", 7, ())]
    text = importance_figure(found).layout.annotations[0].text
    assert text.replace("<br>", " ") == too_few_words(found)
    assert "7 are completed" in too_few_words(found)
