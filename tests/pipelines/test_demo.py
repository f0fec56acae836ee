import itertools
import re
import types

import rich.console

from edge_exray.pipelines import demo, run_record


def test_times_of_the_steps_add_up_to_the_whole(tmp_path, monkeypatch):
    lines = [
        "Component Trainer is running.",
        "Component Trainer is finished.",
        "Component Pusher is running.",
        "cached execution 7 is used",
        "Component Pusher is finished.",
    ]
    # A clock that goes on by 1.5 s whenever it is looked at.
    ticks = itertools.count(step=1.5)
    monkeypatch.setattr(demo, "time", types.SimpleNamespace(monotonic=lambda: next(ticks)))
    monkeypatch.setattr(demo, "_child", lambda module, log, follow: [follow(line) for line in lines])
    monkeypatch.setattr(run_record, "latest_run", lambda layout: None)
    console = rich.console.Console(record=True, highlight=False, width=80)
    demo._run(demo.SCENARIOS[0], run_record.Layout(tmp_path), console)
    text = console.export_text()
    assert re.search(r"Pusher +cached", text)
    seconds = {name.strip(): float(value) for name, value in re.findall(r"^  (.+?) +(\d+\.\d) s$", text, re.MULTILINE)}
    assert set(seconds) == {"Trainer", "loading TFX, rest", "in all"}
    assert seconds["Trainer"] + seconds["loading TFX, rest"] == seconds["in all"]
