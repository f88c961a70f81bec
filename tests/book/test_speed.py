"""What the page on speed draws: the stored results, complete and within the rules of the race."""

import statistics

import pytest

from vae_book import speed

PRECISIONS = ("float32", "bfloat16")


@pytest.mark.parametrize("name", ["race", "throughput", "likelihood", "growth"])
def test_every_benchmark_says_what_it_ran_on(name):
    assert {"CPU", "cores", "GPU", "torch"} <= speed.measured(name)["hardware"].keys()
    assert speed.measured(name)["rounds"] >= 5


def test_ten_seeds_of_every_entry_finish():
    race = speed.measured("race")
    assert {f"{way}, {p}" for way in ("fit", "record") for p in PRECISIONS} == race["a"].keys()
    for runs in race["a"].values():
        assert len(runs["nats"]) == len(runs["seconds"]) == 10
        assert max(runs["nats"]) <= race["target"]
    for target, runs in race["b"].items():
        assert len(runs["nats"]) == 10 and max(runs["nats"]) <= float(target)
    assert len(race["example"]) == race["rounds"]
    assert all(len(run["seconds"]) == 10 for run in race["example"])


def test_the_race_is_drawn_from_slowest_to_fastest():
    entries = speed.seconds_of_the_race()
    medians = [statistics.median(seconds) for seconds in entries.values()]
    assert medians == sorted(medians, reverse=True)
    (ax,) = speed.draw_race().axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(entries)
    assert [bar.get_width() for bar in ax.patches] == medians
    dots = [list(line.get_xdata()) for line in ax.lines]
    assert dots == list(entries.values())


def test_every_idea_is_drawn_with_its_number():
    (ax,) = speed.draw_tried().axes
    names = [label.get_text() for label in ax.get_yticklabels()]
    rows = {row["what"]: row for row in speed.measured("tried")}
    assert sorted(names) == sorted(rows)
    dots = [line for line in ax.lines if line.get_marker() in ("o", ">")]
    for name, dot in zip(names, dots, strict=True):
        assert dot.get_xdata()[0] == min(rows[name]["nats"], 2.0)
    used = [rows[name]["used"] for name in names]
    assert used == sorted(used, reverse=True), "first those that the record uses"


def test_throughput_and_its_parts():
    (ax,) = speed.draw_throughput().axes
    rows = speed.measured("throughput")["rows"]
    assert {(row["threads"], row["batch size"]) for row in rows} == {
        (t, b) for t in (1, 2) for b in (128, 256)
    }
    middles = {line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o"}
    names = ("textbook loop", "pythae's trainer", "bare products")
    assert middles == {m for name in names for m in speed.speeds_of_fit(name)}
    (ax,) = speed.draw_profile().axes
    loops = speed.measured("throughput")["profile"]
    widths = [parts[part] for parts in loops.values() for part in speed.PARTS]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(widths)


def test_growth_has_four_panels_of_time_and_memory():
    figure = speed.draw_growth()
    points = speed.measured("growth")["points"]
    times = [list(ax.lines[0].get_ydata()) for ax in figure.axes if ax.get_xlabel() in points]
    assert times == [[p["seconds"] for p in panel.values()] for panel in points.values()]
    assert len(figure.axes) == 8


def test_the_table_of_the_second_race():
    lines = speed.race_table(["105", "95"]).splitlines()
    assert len(lines) == 3 and lines[1].split()[0] == "105"
    assert float(lines[2].split()[2]) <= 95
