"""Do the sample file, the JSON Schema and the documentation say what the table of keys says?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from balloond.config.describe import describe
from balloond.config.form import FORM, Key, Listing, Section, keys
from balloond.config.read import ConfigError, load, read
from balloond.config.schema import schema, table, text
from balloond.config.settings import Config

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "etc/balloond.yaml"
SCHEMA = ROOT / "etc/balloond.schema.json"


def accepts(written: str) -> bool:
    """Whether an editor would be content."""
    validator = jsonschema.Draft7Validator(schema())
    return bool(validator.is_valid(yaml.safe_load(written)))


def test_the_sample_file_means_exactly_the_defaults() -> None:
    assert load(SAMPLE) == Config()


def test_the_sample_file_holds_every_key_with_its_default() -> None:
    given = yaml.safe_load(SAMPLE.read_text())
    for path, key in keys():
        if path.startswith("guests[]"):
            continue
        value: Any = given
        for name in path.split("."):
            value = value[name]
        assert value == yaml.safe_load(str(key.default)), path


def test_every_key_of_the_sample_file_is_explained_above_it() -> None:
    lines = SAMPLE.read_text().splitlines()
    leaves = {path.split(".")[-1] for path, _ in keys() if not path.startswith("guests[]")}
    for number, line in enumerate(lines):
        if line.strip().partition(":")[0] in leaves:
            assert lines[number - 1].lstrip().startswith("#"), line


def test_the_rules_that_the_sample_file_shows_are_good() -> None:
    lines = SAMPLE.read_text().splitlines()
    shown = [line.removeprefix("#") for line in lines if line.startswith(("#   - ", "#     m", "#     s"))]
    config = read(
        "guests:\n"
        + "\n".join(line for line in shown if "balloonctl" not in line and "systemctl" not in line),
        "f",
    )
    assert [rule.name for rule in config.guests] == ["db-*", "router"]


def test_the_sample_file_names_its_schema_in_the_first_line() -> None:
    first = SAMPLE.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA.name}"


def test_the_committed_schema_is_what_the_table_makes() -> None:
    """Made with `python -m balloond.config.schema >etc/balloond.schema.json`."""
    assert SCHEMA.read_text() == text()
    made = subprocess.run(
        [sys.executable, "-m", "balloond.config.schema"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert made.stdout == text()
    jsonschema.Draft7Validator.check_schema(json.loads(text()))


def test_the_documentation_holds_the_table_of_keys() -> None:
    """Made with `balloond.config.schema.table()`."""
    assert table().startswith(
        "| key | value | default | what it is, why to change it |\n| --- | --- | --- | --- |\n| `mode` |"
    )
    assert table() in (ROOT / "docs/configuration.md").read_text()


def test_the_defaults_that_the_table_tells_are_the_defaults() -> None:
    written: dict[str, Any] = {}
    for path, key in keys():
        if not path.startswith("guests[]"):
            *sections, name = path.split(".")
            inner = written
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[name] = yaml.safe_load(str(key.default))
    assert read(yaml.safe_dump(written), "f") == Config()


OTHER = {
    "mode": "observe",
    "interval": "3s",
    "libvirt.uri": "qemu:///session",
    "host.memory": "64GiB",
    "host.reserve": "2GiB",
    "host.pool": "6%",
    "ksm.mode": "steer",
    "ksm.cpu": "30%",
    "ksm.restore": "false",
    "defaults.minimum": "30%",
    "defaults.maximum": "90%",
    "defaults.shares": "7",
    "defaults.manage": "false",
    "guests[].match.name": "a*",
    "guests[].match.uuid": "c*",
    "guests[].match.title": "t*",
    "guests[].minimum": "31%",
    "guests[].maximum": "91%",
    "guests[].shares": "8",
    "guests[].manage": "false",
    "metrics.listen": "'[::1]:1'",
    "control.socket": "/run/x/control.sock",
    "state.directory": "/run/x",
}


def test_the_keys_are_walked_with_their_paths_in_the_order_of_the_form() -> None:
    assert [path for path, _ in keys()] == [*OTHER]


@pytest.mark.parametrize("path", OTHER)
def test_every_key_of_the_table_reaches_the_configuration(path: str) -> None:
    value = OTHER[path]
    section, _, rest = path.removeprefix("guests[].").rpartition(".")
    inner = f"{section}: {{{rest}: {value}}}" if section else f"{rest}: {value}"
    if path.startswith("guests[]"):
        rule = inner if section else f"match: {{name: g}}, {inner}"
        plain = "guests: [{match: {name: g}}]"
        inner = f"guests: [{{{rule}}}]"
    else:
        plain = ""
    assert read(inner, "f") != read(plain, "f")
    assert accepts(inner)


@pytest.mark.parametrize(
    "written",
    [
        SAMPLE.read_text(),
        "",
        "host:\nguests:\n",
        "guests: [{match: {name: a}, maximum: null}]",
        "metrics: {listen: off}",
        "metrics: {listen: 'off'}",
        "ksm: {mode: off}",
        "ksm: {mode: 'off', cpu: 1%}",
        "metrics: {listen: '[fe80::1%eth0]:1'}",
        "host: {memory: 1.5 TiB, reserve: 12.5 %}",
    ],
)
def test_the_schema_accepts_what_is_right(written: str) -> None:
    read(written, "f")
    assert accepts(written)


@pytest.mark.parametrize(
    "written",
    [
        "[]",
        "mode: fast",
        "mode: off",
        "mode: null",
        "interval: 2",
        "interval: 2m",
        "intervall: 2s",
        "libvirt: {uri: 'qemu+ssh://other/system'}",
        "host: {memory: 64}",
        "host: {memory: 64GB}",
        "host: {memory: 50%}",
        "host: {pool: 0.05}",
        "host: {reserve: null}",
        "host: 5",
        "ksm: {mode: on}",
        "ksm: {mode: merge}",
        "ksm: {cpu: 0.5}",
        "defaults: {shares: 0}",
        "defaults: {shares: many}",
        "defaults: {manage: 'true'}",
        "guests: {}",
        "guests: [null]",
        "guests: [{}]",
        "guests: [{match: {}}]",
        "guests: [{match: null}]",
        "guests: [{match: {nam: a}}]",
        "guests: [{match: {name: ''}}]",
        "guests: [{match: {uuid: xyz}}]",
        "metrics: {listen: 9710}",
        "metrics: {listen: on}",
        "metrics: {listen: 'localhost:9710'}",
        "control: {socket: relative}",
        "state: {directory: /run/}",
    ],
)
def test_the_schema_rejects_what_the_reader_rejects(written: str) -> None:
    with pytest.raises(ConfigError):
        read(written, "f")
    assert not accepts(written)


def test_every_part_of_the_table_is_explained_and_no_name_stands_twice() -> None:
    def walk(section: Section) -> None:
        names = [part.name for part in section.parts]
        assert len(names) == len(set(names))
        for part in section.parts:
            assert part.words.endswith(".")
            match part:
                case Section():
                    walk(part)
                case Listing():
                    walk(part.of)
                case Key():
                    assert part.kind.right.startswith("write ")

    walk(FORM)


def test_a_configuration_is_summed_up_in_a_few_lines() -> None:
    assert describe(Config()).splitlines() == [
        "mode: active: decides and acts every 2 s, over qemu:///system",
        "host: all that the host or the guests' cgroup has, less a reserve of 1 GiB, with 5% kept free for growth",
        "merging: left as it is",
        "guests: at least 25% of their maximum, at most their own maximum, 1000 shares",
        "metrics: http://127.0.0.1:9710/metrics",
        "control: /run/balloond/control.sock; state in /run/balloond",
    ]


def test_rules_are_summed_up_one_a_line() -> None:
    written = """
        mode: observe
        host: {memory: 64GiB}
        ksm: {mode: off}
        guests:
          - {match: {name: "db-*", title: "x"}, minimum: 4GiB, maximum: 50%, shares: 4000}
          - {match: {name: router}, manage: false}
          - {match: {uuid: "c7*"}, maximum: 8GiB}
        metrics: {listen: "[::1]:0"}
        """
    assert describe(read(written, "f")).splitlines()[:8] == [
        "mode: observe: decides and exports, and touches no guest, every 2 s, over qemu:///system",
        "host: 64 GiB, less a reserve of 1 GiB, with 5% kept free for growth",
        "merging: none; what is merged is taken apart when there is room",
        "guests: at least 25% of their maximum, at most their own maximum, 1000 shares",
        "  rule 1: name db-* and title x: at least 4 GiB, at most 50% of it, 4000 shares",
        "  rule 2: name router: watched, never touched",
        "  rule 3: uuid c7*: at least 25% of their maximum, at most 8 GiB, 1000 shares",
        "metrics: a free port of [::1]",
    ]
    assert describe(read("metrics: {listen: off}", "f")).splitlines()[4] == "metrics: no port is opened"


@pytest.mark.parametrize(
    ("restore", "after"), [("true", "put back at a stop"), ("false", "left so at a stop")]
)
def test_steered_merging_is_summed_up_with_its_share(restore: str, after: str) -> None:
    config = read(f"ksm: {{mode: steer, cpu: 35%, restore: {restore}}}", "f")
    said = f"merging: as far as it pays, with at most 35% of a processor; {after}"
    assert said in describe(config).splitlines()
