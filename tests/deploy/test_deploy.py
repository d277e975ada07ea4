"""The files of deploy/: units that systemd takes, commands that exist, panels of metrics that the service has."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from lmm4rec.cli.app import app as command_line
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def commands() -> Iterator[tuple[str, list[str]]]:
    """The calls of lmm4rec in the units and the container recipe."""
    for unit in sorted(DEPLOY.glob("*.service")):
        text = unit.read_text().replace("\\\n", " ")
        [line] = re.findall(r"^ExecStart=\S+/lmm4rec (.*)$", text, re.MULTILINE)
        yield unit.name, shlex.split(line)
    recipe = (DEPLOY / "Containerfile").read_text()
    [line] = re.findall(r"^CMD (\[.*\])$", recipe, re.MULTILINE)
    yield "Containerfile", json.loads(line)
    for line in re.findall(r"^#   podman run .* lmm4rec (refresh .*?)(?: {2,}.*)?$", recipe, re.MULTILINE):
        yield "Containerfile, the night job", shlex.split(line)


@pytest.mark.long
@pytest.mark.parametrize(("where", "words"), [pytest.param(*one, id=one[0]) for one in commands()])
def test_the_commands_and_their_options_exist(where: str, words: list[str]) -> None:
    command = typer.main.get_command(command_line).commands[words[0]]  # type: ignore[attr-defined]
    context = command.make_context(words[0], words[1:])
    assert context.params


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """With this Python in place of /opt/lmm4rec/bin/lmm4rec, since systemd looks whether the program is there."""
    for unit in DEPLOY.glob("lmm4rec*.*"):
        text = unit.read_text().replace("/opt/lmm4rec/bin/lmm4rec", sys.executable)
        (tmp_path / unit.name).write_text(text)
    units = [str(tmp_path / name) for name in ("lmm4rec.service", "lmm4rec-night.service", "lmm4rec-night.timer")]
    answer = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False, timeout=60
    )
    own = [line for line in answer.stderr.splitlines() if "lmm4rec" in line]
    assert own == []


def test_each_panel_of_the_dashboard_shows_a_metric_that_there_is(tmp_path: Path) -> None:
    import numpy as np
    import torch

    seen = Interactions(np.array([0], np.int32), np.array([0], np.int32))
    bundle = Bundle(
        Embeddings(torch.ones(1, 2), torch.ones(3, 2)), Vocabulary("u"), Vocabulary("abc"), list("ABC"), seen, {}
    )
    bundle.save(tmp_path / "shop" / "bundle")
    with TestClient(make_app([tmp_path / "shop"], Settings(hosts=("testserver",)))) as client:
        client.get("/recommend/u")
        client.get("/recommend/nobody")
        client.post("/interactions", json={"interactions": [{"user": "u", "item": "b"}]})
        families = list(text_string_to_metric_families(client.get("/metrics").text))
    labels: dict[str, set[str]] = {}
    values: dict[tuple[str, str], set[str]] = {}
    for family in families:
        for name in {family.name, f"{family.name}_total" if family.type == "counter" else family.name}:
            labels.setdefault(name, set())
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
            for label, value in sample.labels.items():
                values.setdefault((sample.name, label), set()).add(value)
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 10
    for expression in expressions:
        names = re.findall(r"\b(?:lmm4rec|process)_\w+", expression)
        assert names, expression
        for name in names:
            assert name in labels, expression
        given = {"job", "instance", "le"}  # those that Prometheus adds, and that of buckets
        for name, chosen in re.findall(r"(\w+)\{([^}]*(?:\{[^}]*\}[^}]*)?)\}", expression):
            for label, sign, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', chosen):
                if label not in given:
                    assert label in labels[name], expression
                    if sign == "=" and name != "lmm4rec_interactions_total":
                        assert value in values[name, label], expression
        for group in re.findall(r"by \(([^)]*)\)", expression):
            for label in group.split(", "):
                assert label in given or any(label in labels[name] for name in names) or "reloads" in expression, (
                    expression
                )
    boxes = [tuple(panel["gridPos"][side] for side in "xywh") for panel in dashboard["panels"]]
    cells = [(x + dx, y + dy) for x, y, w, h in boxes for dx in range(w) for dy in range(h)]
    assert len(cells) == len(set(cells))  # no panel lies over another one
    assert max(x for x, _ in cells) < 24


def test_the_container_runs_as_nobody_of_importance_and_is_asked_for_its_health() -> None:
    recipe = (DEPLOY / "Containerfile").read_text()
    last = recipe.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER (\d+):\d+$", last, re.MULTILINE)[1] != "0"  # type: ignore[index]
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT ")
    assert "\nHEALTHCHECK " in last
    assert "/ready" in last
    for image in re.findall(r"^FROM (\S+)", recipe, re.MULTILINE):
        assert re.search(r":[^/]*\d|\$\{PYTHON\}", image), f"{image} has no version"
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", recipe, re.MULTILINE) for word in line.split()}
    for name in copied:
        assert (DEPLOY.parent / name).exists()
        assert f"!{name}" in (DEPLOY.parent / ".dockerignore").read_text().splitlines()


def test_the_proxies_pass_on_what_the_service_compares() -> None:
    nginx, caddy = ((DEPLOY / name).read_text() for name in ("nginx.conf", "Caddyfile"))
    assert "proxy_set_header Host $http_host;" in nginx  # Caddy passes it on by itself
    for text in (nginx, caddy):
        assert "127.0.0.1:8000" in text
        assert text.count("{") == text.count("}")
        assert "/shop/metrics" in text
