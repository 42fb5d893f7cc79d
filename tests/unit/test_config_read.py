"""Is each mistake told, with its line, its path and what would be right; and all of them at once?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from balloond.config.document import DEEPEST, LARGEST_FILE, MOST_NODES
from balloond.config.form import MOST_RULES
from balloond.config.problems import escape
from balloond.config.read import ConfigError, Problem, load, load_usual, read
from balloond.config.settings import Amount, Config, GuestPolicy, GuestRule, HostPolicy, Listen, Mode
from balloond.units import GIB, MIB


def faults(text: str) -> list[str]:
    """What is told of a text, a line each; none for a good one."""
    try:
        read(text, "f")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def only_fault(text: str) -> str:
    (fault,) = faults(text)
    return fault


# --- what is right ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "\n# nothing\n", "---\n", "null", "{}", "host:\nguests:\nmetrics:\n", "\ufeff"]
)
def test_an_empty_file_is_the_defaults(text: str) -> None:
    assert read(text, "f") == Config()


def test_every_key_is_read() -> None:
    text = """
        mode: observe
        interval: 500ms
        libvirt: {uri: "qemu:///embed?root=/srv/guests"}
        host: {memory: 64GiB, reserve: 2%, pool: 3GiB}
        defaults: {minimum: 1GiB, maximum: 75%, shares: 500, manage: no}
        guests:
          - match: {name: "db-*", uuid: "C7A5FDBD-EDAF-9455-926A-D65C16DB1809", title: "*[!x]"}
            minimum: 4GiB
            maximum: null
            shares: 4000
            manage: yes
        metrics: {listen: "[::1]:0"}
        control: {socket: /run/other/control.sock}
        state: {directory: /run/other}
        """
    assert read(text, "f") == Config(
        mode=Mode.OBSERVE,
        interval_s=0.5,
        libvirt_uri="qemu:///embed?root=/srv/guests",
        host=HostPolicy(memory=64 * GIB, reserve=Amount(share=0.02), pool=Amount(size=3 * GIB)),
        defaults=GuestPolicy(minimum=Amount(size=GIB), maximum=Amount(share=0.75), shares=500, manage=False),
        guests=(
            GuestRule(
                name="db-*",
                uuid="c7a5fdbd-edaf-9455-926a-d65c16db1809",
                title="*[!x]",
                policy=GuestPolicy(minimum=Amount(size=4 * GIB), shares=4000),
            ),
        ),
        metrics=Listen(host="::1", port=0),
        control_socket="/run/other/control.sock",
        state_directory="/run/other",
    )


def test_what_a_rule_leaves_out_comes_from_the_defaults_and_never_from_another_rule() -> None:
    text = """
        guests:
          - {match: {name: a}, shares: 9}
          - {match: {name: b}, minimum: 2GiB}
        defaults: {shares: 5, minimum: 10%}
        """
    config = read(text, "f")
    defaults = GuestPolicy(shares=5, minimum=Amount(share=0.1))
    assert config.policy_for("u", "a", "") == replace(defaults, shares=9)
    assert config.policy_for("u", "b", "") == replace(defaults, minimum=Amount(size=2 * GIB))
    assert config.policy_for("u", "c", "") == defaults


@pytest.mark.parametrize("written", ["off", "no", "false", '"off"', "null", "~", ""])
def test_the_port_of_the_metrics_can_be_switched_off_in_every_way_that_people_try(written: str) -> None:
    assert read(f"metrics:\n  listen: {written}\n", "f").metrics is None


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [("0.0.0.0:9710", "0.0.0.0", 9710), ('"[::]:1"', "::", 1), ("127.0.0.1:65535", "127.0.0.1", 65535)],  # noqa: S104
)
def test_an_address_is_read_without_its_brackets(written: str, host: str, port: int) -> None:
    assert read(f"metrics: {{listen: {written}}}", "f").metrics == Listen(host=host, port=port)


# --- how a fault is told ---------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_in_the_order_of_the_lines() -> None:
    text = """\
mode: activ
intervall: 3s
interval: 2
host: {reserve: 1.5}
defaults:
  minimum: 120%
guests:
  - match: {name: ""}
  - minimum: 2GiB
metrics: {listen: "localhost:9710"}
"""
    assert faults(text) == [
        "f:1: mode: 'activ' is no mode; write active or observe",
        "f:2: (file): has no key 'intervall'; did you mean interval?",
        "f:3: interval: '2' has no unit; write 2s",
        "f:4: host.reserve: '1.5' has no unit; write 1.5MiB or 1.5GiB",
        "f:6: defaults.minimum: '120%' is no percentage from 0% to 100%; "
        "write a size or a percentage, such as 4GiB or 25%",
        "f:8: guests[0].match.name: '' fits no guest; write a shell glob such as \"db-*\", in quotes",
        "f:9: guests[1].match: is missing; "
        'write at least one of name, uuid and title, such as match: {name: "db-*"}',
        "f:10: metrics.listen: 'localhost' is no numeric IP address; "
        'write an address and a port such as "127.0.0.1:9710" or "[::1]:9710", or off',
    ]


def test_a_fault_is_one_line_whatever_is_in_the_file_and_its_name() -> None:
    text = 'mode: "a\\nb\\e[2J"\n"key\\n2": 1\n'
    with pytest.raises(ConfigError) as caught:
        read(text, "na\nme.yaml")
    lines = [str(problem) for problem in caught.value.problems]
    assert lines[0] == "na\\nme.yaml:1: mode: 'a\\nb\\x1b[2J' is no mode; write active or observe"
    assert all(line.isprintable() for line in lines)


def test_a_long_value_is_shortened() -> None:
    assert len(only_fault("mode: " + "x" * 10_000)) < 200


def test_the_error_holds_the_problems_as_values_and_prints_them_all() -> None:
    with pytest.raises(ConfigError) as caught:
        read("a: 1\nb: 2\n", "f")
    assert [type(problem) for problem in caught.value.problems] == [Problem, Problem]
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [("f", 1), ("f", 2)]
    assert str(caught.value) == "\n".join(str(problem) for problem in caught.value.problems)


# --- single values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path", "what"),
    [
        ("mode: Active", "mode", "'Active' is no mode"),
        ("mode: off", "mode", "is true or false ('off')"),
        ("mode:", "mode", "is empty"),
        ("mode: [active]", "mode", "is a list"),
        ("interval: 0.4s", "interval", "'0.4s' is not between 0.5s and 60s"),
        ("interval: 61s", "interval", "'61s' is not between 0.5s and 60s"),
        ("interval: 2 minutes", "interval", "has unit 'minutes'"),
        ("interval: .nan", "interval", "'.nan' is not a duration"),
        ("interval: -2s", "interval", "'-2s' is not a duration"),
        ("interval: 2024-01-01", "interval", "is a date ('2024-01-01')"),
        ("host: {memory: 0GiB}", "host.memory", "a size of 0 is nothing"),
        ("host: {memory: 64MB}", "host.memory", "has unit 'MB'"),
        ("host: {memory: 64GiB64GiB}", "host.memory", "is not a size"),
        ("host: {memory: 64MiB}", "host.memory", "64 MiB is less than 96 MiB"),
        ("host: {memory: 4097TiB}", "host.memory", "is more than any machine has"),
        ("host: {memory: 50%}", "host.memory", "has unit '%'"),
        (f"host: {{memory: {'9' * 500}GiB}}", "host.memory", "is no number that anybody would write"),
        ("host: {reserve: 0B}", "host.reserve", "a size of 0 is nothing"),
        ("host: {reserve: null}", "host.reserve", "is empty"),
        ("host: {pool: 0%}", "host.pool", "'0%' is nothing"),
        ("host: {pool: 100.1%}", "host.pool", "is no percentage"),
        ("host: {pool: -5%}", "host.pool", "'-5%' is not"),
        ("host: {pool: 0.05}", "host.pool", "'0.05' has no unit"),
        ("host: 64GiB", "host", "is text"),
        ("defaults: {minimum: 64MiB}", "defaults.minimum", "64 MiB is less than 96 MiB"),
        ("defaults: {maximum: 64MiB}", "defaults.maximum", "64 MiB is less than 96 MiB"),
        ("defaults: {shares: 0}", "defaults.shares", "'0' is not between 1 and 1000000"),
        ("defaults: {shares: -1}", "defaults.shares", "'-1' is not between 1 and 1000000"),
        ("defaults: {shares: 1000001}", "defaults.shares", "is not between"),
        ("defaults: {shares: 1.5}", "defaults.shares", "'1.5' is no whole number"),
        ("defaults: {shares: 0x64}", "defaults.shares", "'0x64' is no whole number in decimal"),
        ("defaults: {shares: 0100}", "defaults.shares", "'0100' is no whole number in decimal"),
        ("defaults: {shares: '5'}", "defaults.shares", "is text ('5')"),
        ("defaults: {shares: .inf}", "defaults.shares", "'.inf' is no whole number"),
        ("defaults: {manage: 1}", "defaults.manage", "is a number ('1')"),
        ("defaults: {manage: 'true'}", "defaults.manage", "is text ('true')"),
        ("defaults: {manage: !!bool perhaps}", "defaults.manage", "'perhaps' is neither true nor false"),
        ("libvirt: {uri: 'xen:///system'}", "libvirt.uri", "is no libvirt URI of local QEMU guests"),
        ("libvirt: {uri: 'qemu:system'}", "libvirt.uri", "is no libvirt URI"),
        ("libvirt: {uri: 'qemu+ssh://root@other/system'}", "libvirt.uri", "leads to another host"),
        ("libvirt: {uri: 'qemu+ssh:///system'}", "libvirt.uri", "leads to another host"),
        ("libvirt: {uri: 'qemu://other/system'}", "libvirt.uri", "leads to another host"),
        ("libvirt: {uri: 'qemu:///a b'}", "libvirt.uri", "is no libvirt URI"),
        ("metrics: {listen: 9710}", "metrics.listen", "is a number ('9710')"),
        ("metrics: {listen: on}", "metrics.listen", "'on' is no address and port"),
        ("metrics: {listen: ':9710'}", "metrics.listen", "'' is no numeric IP address"),
        ("metrics: {listen: '127.0.0.1'}", "metrics.listen", "is no address and port"),
        ("metrics: {listen: '127.0.0.1:65536'}", "metrics.listen", "is no address and port"),
        ("metrics: {listen: '127.0.0.1:-1'}", "metrics.listen", "is no address and port"),
        ("metrics: {listen: '127.0.0.256:80'}", "metrics.listen", "is no numeric IP address"),
        ("metrics: {listen: '::1:9710'}", "metrics.listen", "is no address and port"),
        ("metrics: {listen: '[127.0.0.1]:80'}", "metrics.listen", "brackets around an IPv4 address"),
        ("metrics: {listen: '[host]:80'}", "metrics.listen", "'host' is no numeric IP address"),
        ("control: {socket: run/x}", "control.socket", "is no absolute path"),
        ("control: {socket: /run/../x}", "control.socket", "is no absolute path"),
        ('control: {socket: "/run/\\0x"}', "control.socket", "is no absolute path"),
        (f"control: {{socket: /{'x' * 107}}}", "control.socket", "is longer than a socket's path can be"),
        ("state: {directory: /}", "state.directory", "ends in /"),
    ],
)
def test_a_wrong_value_is_told_with_its_path(text: str, path: str, what: str) -> None:
    fault = only_fault("# a first line\n" + text)
    assert fault.startswith(f"f:2: {path}: ")
    assert what in fault
    assert "; " in fault, "what would be right must be told as well"


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("name: 'db-[ab'", "has a [ without its ]"),
        ("name: 'db-[z-a]'", "has a range that holds nothing"),
        ("name: ''", "fits no guest"),
        ("name: 5", "is a number ('5')"),
        ("name: null", "is empty"),
        ('name: "a\\nb"', "unprintable"),
        ("uuid: abc", "is no UUID"),
        ("uuid: 'xyz*'", "holds characters that no UUID has"),
        ("title: {a: b}", "is a mapping"),
    ],
)
def test_a_pattern_that_can_fit_no_guest_is_refused(pattern: str, what: str) -> None:
    fault = only_fault(f"guests:\n  - match: {{{pattern}}}\n")
    assert fault.startswith(f"f:2: guests[0].match.{pattern.split(':', maxsplit=1)[0]}: ")
    assert what in fault


@pytest.mark.parametrize("pattern", ["a", "*", "db-[a-c]?", "[]]", "[!]x]", "]", "a[*]b", "[[]"])
def test_every_sound_glob_is_taken(pattern: str) -> None:
    assert read(f"guests: [{{match: {{name: '{pattern}'}}}}]", "f").guests[0].name == pattern


# --- the shape -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[]", "f:1: (file): is a list; write keys and values: mode, interval"),
        ("text", "f:1: (file): is text; write keys and values: mode, interval"),
        ("host:\n  memry: 1", "f:2: host: has no key 'memry'; did you mean memory?"),
        ("host: {min: 1}", "f:1: host: has no key 'min'; known here: memory, reserve, pool"),
        ("Mode: active", "f:1: (file): has no key 'Mode'; did you mean mode?"),
        ("? [a, b]\n: 1", "f:1: (file): has a list for a key"),
        ("mode: active\nhost: {}\nmode: observe", "f:3: mode: stands twice, first in line 1; remove one"),
        ("guests: {}", "f:1: guests: is a mapping; write a list"),
        ("guests:\n  - db", "f:2: guests[0]: is text; write keys and values: match,"),
        ("guests:\n  -\n", "f:2: guests[0]: is empty; write keys and values: match,"),
        ("guests:\n  - match:\n", "f:2: guests[0].match: is empty; write at least one of"),
        ("guests:\n  - match: {}\n", "f:2: guests[0].match: is empty; write at least one of"),
        (
            "guests: [{match: {name: a, nme: b}}]",
            "f:1: guests[0].match: has no key 'nme'; did you mean name?",
        ),
        ("host: !mine {pool: 5%}", "f:1: host: is tagged '!mine'"),
        (
            "!!python/object:os.system {}",
            "f:1: (file): is tagged 'tag:yaml.org,2002:python/object:os.system'",
        ),
        ("mode: !!binary abc", "f:1: mode: is tagged 'tag:yaml.org,2002:binary' ('abc')"),
        ("host:\n  <<: {pool: 5%}", "f:2: host: merges another mapping with <<; write its keys out"),
        ("a: b: c", "f:1: (file): not YAML that can be used: mapping values are not allowed here;"),
        ("mode: active\n\thost: 1", "f:2: (file): not YAML that can be used: "),
        (
            "mode: active\n---\nmode: active",
            "f:2: (file): not YAML that can be used: expected a single document",
        ),
        ("mode: 'active", "f:1: (file): not YAML that can be used: "),
        ("\n\nmode: a\x00b", "f:3: (file): holds a character that can't stand in YAML"),
        ('mode: "\\UFFFFFFFF"', "f:1: (file): not YAML: "),
        (f"%YAML {'9' * 5000}.1\n---\n", "f:1: (file): not YAML: "),
        ("[" * 100_000, f"f:1: (file): not YAML that can be used: nested deeper than {DEEPEST} levels"),
        ("- " * 50_000, f"f:1: (file): not YAML that can be used: nested deeper than {DEEPEST} levels"),
        (
            "- 1\n" * MOST_NODES,
            f"f:{MOST_NODES}: (file): not YAML that can be used: more than {MOST_NODES} values",
        ),
        (
            "guests: [" + "{}," * (MOST_RULES + 1) + "]",
            f"f:1: guests: has {MOST_RULES + 1} entries; write at most",
        ),
    ],
)
def test_a_wrong_shape_is_told_with_its_line(text: str, fault: str) -> None:
    assert only_fault(text).startswith(fault)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("mode:", "f:1: mode: is empty; write active or observe"),
        ("mode: [active]", "f:1: mode: is a list; write active or observe"),
        (
            "? [a, b]\n: 1",
            "f:1: (file): has a list for a key; "
            "write one of mode, interval, libvirt, host, ksm, defaults, guests, metrics, control, state",
        ),
        ("host:\n  pool: 5%\n  pool: 6%", "f:3: host.pool: stands twice, first in line 2; remove one"),
        (
            "guests: !mine []",
            "f:1: guests: is tagged '!mine'; write a list, each entry beginning with `- match:`",
        ),
        (
            'mode: "\\UFFFFFFFF"',
            "f:1: (file): not YAML: Python int too large to convert to C int; "
            "look for a wrong escape or % directive",
        ),
        (
            "mode: 'active",
            "f:1: (file): not YAML that can be used: "
            "while scanning a quoted scalar found unexpected end of stream; "
            "look at the indentation, and quote text that holds : # * & ! %",
        ),
    ],
)
def test_the_whole_of_what_is_told(text: str, fault: str) -> None:
    assert only_fault(text) == fault


def test_what_the_parser_complains_of_is_cut_to_two_hundred_characters() -> None:
    def complaint(length: int) -> str:
        fault = only_fault(f"a: !{'x' * length}!b c")
        return fault.removeprefix("f:1: (file): not YAML that can be used: ").partition("; look at")[0]

    words = "while parsing a node found undefined tag handle '!"
    longest = 200 - len(words + "!'")
    assert complaint(longest) == f"{words}{'x' * longest}!'"
    assert complaint(longest + 1) == f"{words}{'x' * (longest + 1)}…"


def test_depth_is_counted_from_the_root_and_forgotten_on_the_way_back() -> None:
    def too_deep(text: str) -> bool:
        return "nested deeper than" in only_fault(text)

    assert not too_deep("[" * DEEPEST + "]" * DEEPEST)
    assert too_deep("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))
    assert not too_deep("[" + "[]," * 100 + "]")
    assert too_deep("[" + "[]," * 100 + "[" * DEEPEST)
    assert too_deep("[[]," * (DEEPEST + 1))
    assert only_fault("[\n" * 50).startswith(f"f:{DEEPEST + 1}: ")


def test_as_many_rules_as_are_allowed_are_each_looked_at() -> None:
    assert len(faults("guests: [" + "{}," * MOST_RULES + "]")) == MOST_RULES


def test_a_key_that_is_an_alias_hides_no_other_fault() -> None:
    assert faults("{*b : 1, mode: fast}") == [
        "f:1: (file): *b is an alias; write the value out",
        "f:1: mode: 'fast' is no mode; write active or observe",
    ]


def test_anchors_and_aliases_are_refused_each_with_its_line_and_grow_nothing() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
    )
    told = faults(bomb)
    assert "f:1: (file): &a is an anchor; remove it, `defaults` is for what rules share" in told
    assert "f:2: (file): *a is an alias; write the value out" in told
    assert len(told) < 100
    assert "f:1: (file): *a is an alias; write the value out" in faults("host: &a {pool: *a}")
    assert "f:2: (file): *b is an alias; write the value out" in faults("mode: active\nguests: [*b]")
    assert "f:1: (file): *b is an alias; write the value out" in faults(
        "{mode: *b, host: *b, guests: *b, *b : 1}"
    )


# --- what does not fit together --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "defaults:\n  minimum: 4GiB\n  maximum: 2GiB",
            "f:2: defaults.minimum: minimum 4 GiB is more than maximum 2 GiB; write a minimum of at most 2 GiB",
        ),
        (
            "defaults:\n  maximum: 20%",
            "f:2: defaults.maximum: minimum 25% is more than maximum 20%; write a minimum of at most 20%",
        ),
        (
            "defaults: {maximum: 2GiB}\nguests:\n  - match: {name: a}\n    minimum: 3GiB",
            "f:4: guests[0].minimum: minimum 3 GiB is more than maximum 2 GiB, from defaults; "
            "write a minimum of at most 2 GiB",
        ),
        (
            "guests:\n  - match: {name: a}\n    maximum: 10%",
            "f:3: guests[0].maximum: minimum 25%, from defaults, is more than maximum 10%; "
            "write a minimum of at most 10%",
        ),
        (
            "host:\n  memory: 1GiB",
            "f:2: host.memory: reserve 1 GiB and pool 5% leave nothing of 1 GiB; write more memory or keep less",
        ),
        (
            "host: {reserve: 60%, pool: 40%}",
            "f:1: host.reserve: reserve 60% and pool 40% are all that the host has; "
            "write less, such as 1GiB and 5%",
        ),
        (
            "host: {memory: 8GiB, pool: 1GiB}\ndefaults:\n  minimum: 7GiB",
            "f:3: defaults.minimum: 7 GiB can't be had: reserve 1 GiB and pool 1 GiB leave 6 GiB; "
            "write at most 6144MiB, or more host.memory",
        ),
        (
            "guests:\n  - match: {name: a}\n    manage: false\n    shares: 5\n    minimum: 1GiB",
            "f:5: guests[0].minimum: manage: false leaves these guests alone, so that this does nothing; "
            "remove minimum and shares, or write manage: true",
        ),
        (
            "defaults: {manage: false}\nguests:\n  - match: {name: a}\n    shares: 5",
            "f:4: guests[0].shares: manage: false, from defaults, leaves these guests alone, so that this does "
            "nothing; remove shares, or write manage: true",
        ),
        (
            "control: {socket: /run/x}\nstate: {directory: /run/x}",
            "f:1: control.socket: the socket and the state directory are both /run/x; give each its own path",
        ),
        (
            "state: {directory: /run/balloond/control.sock}",
            "f:1: state.directory: the socket and the state directory are both /run/balloond/control.sock; "
            "give each its own path",
        ),
        (
            "host: {pool: 100%}",
            "f:1: host.pool: reserve 1 GiB and pool 100% are all that the host has; "
            "write less, such as 1GiB and 5%",
        ),
        (
            "host: {memory: 2GiB, pool: 1GiB}",
            "f:1: host.memory: reserve 1 GiB and pool 1 GiB leave nothing of 2 GiB; "
            "write more memory or keep less",
        ),
        (
            "guests:\n  - match: {name: a}\n    minimum: 3GiB\n    maximum: 2GiB",
            "f:3: guests[0].minimum: minimum 3 GiB is more than maximum 2 GiB; write a minimum of at most 2 GiB",
        ),
        (
            "control: {socket: /run/balloond}",
            "f:1: control.socket: the socket and the state directory are both /run/balloond; "
            "give each its own path",
        ),
    ],
)
def test_a_contradiction_is_told_at_the_key_that_was_written(text: str, fault: str) -> None:
    assert only_fault(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "defaults: {minimum: 4GiB, maximum: 20%}",
        "defaults: {minimum: 4GiB, maximum: 4GiB}",
        "defaults: {minimum: 50%, manage: false}",
        "defaults: {maximum: 2GiB}\nguests: [{match: {name: a}, maximum: null, minimum: 3GiB}]",
        "guests: [{match: {name: a}, manage: false}]",
        "defaults: {manage: false}\nguests: [{match: {name: a}, manage: true, shares: 5}]",
        "host: {memory: 4GiB, reserve: 50%, pool: 49%}",
        "host: {reserve: 10%, pool: 1GiB}",
        "host: {memory: 2147483649B, pool: 1GiB}",
        "host: {memory: 8GiB, pool: 1GiB}\ndefaults: {minimum: 6GiB}",
        "defaults: {minimum: 50%, maximum: 50%}",
    ],
)
def test_what_may_well_fit_together_is_taken(text: str) -> None:
    assert faults(text) == []


def test_a_value_with_a_fault_of_its_own_is_not_told_off_twice() -> None:
    assert len(faults("host: {memory: 1GiB, reserve: 5}")) == 1
    assert len(faults("host: {memory: 5, reserve: 60%, pool: 40%}")) == 1
    assert len(faults("host: {memory: 1GiB, pool: 5}")) == 1
    assert len(faults("host: {memory: 1GiB, reserve: *a}")) == 1
    assert len(faults("defaults: {minimum: 4, maximum: 10%}")) == 1
    assert len(faults("defaults: {minimum: 4}\nguests: [{match: {name: a}, maximum: 10%}]")) == 1
    assert (
        len(faults("defaults: {maximum: 30%}\nguests: [{match: {name: a}, minimum: 40%, maximum: 5}]")) == 1
    )
    assert len(faults("guests: [{match: {name: ''}}, {match: {name: a}}]")) == 1
    for pattern in ("name", "uuid", "title"):
        other = "title" if pattern == "name" else "name"
        rule = f"{{match: {{{other}: a, {pattern}: ''}}}}"
        assert len(faults(f"guests: [{rule}, {{match: {{{other}: a}}}}]")) == 1
    assert len(faults("guests: [{match: {name: a, nme: b}}, {match: {name: a}}]")) == 1
    assert len(faults("guests: [{}, {match: {name: a}}]")) == 1
    assert len(faults("guests: [db, {match: {name: a}}]")) == 1
    assert len(faults("guests: [*db , {match: {name: a}}]")) == 1
    assert len(faults("guests: [{match: {nme: b}}, {match: {name: a}}]")) == 1
    assert len(faults("guests: [{match: {name: a}, manage: 5, shares: 7}]\ndefaults: {manage: false}")) == 1


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: '*'", "name: 'db-*'"),
        ("name: 'X*'", "name: 'X1'"),
        ("name: 'db-*'", "name: 'db-1'"),
        ("name: 'db-*'", "name: 'db-a*'"),
        ("name: 'db-*'", "name: 'db-?x[ab]'"),
        ("name: '*-db-*'", "name: 'a-db-??'"),
        ("name: 'a?'", "name: 'a?'"),
        ("name: '*'", "title: 'x'"),
        ("name: 'a*'", "{name: ab, title: x}"),
        ("uuid: 'C*'", "uuid: 'c7a5fdbd-edaf-9455-926a-d65c16db1809'"),
    ],
)
def test_a_rule_that_no_guest_can_reach_is_told(earlier: str, later: str) -> None:
    rules = (
        f"guests:\n  - match: {{name: first}}\n  - match: {{{earlier}}}\n  - match: {{{later.strip('{}')}}}\n"
    )
    assert only_fault(rules) == (
        "f:4: guests[2].match: guests[1] takes every guest that this rule fits; "
        "move this rule before it, or remove one"
    )


def test_every_rule_that_no_guest_can_reach_is_told() -> None:
    text = "guests: [{match: {name: '*'}}, {match: {name: a}}, {match: {name: b}}]"
    assert [fault.split(": ")[1] for fault in faults(text)] == ["guests[1].match", "guests[2].match"]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("name: 'db-1'", "name: 'db-*'"),
        ("name: 'db-?'", "name: 'db-*'"),
        ("name: 'db-[*]'", "name: 'db-*'"),
        ("name: '*]'", "name: '[a]'"),
        ("name: '*-a'", "name: 'b-*'"),
        ("name: '*X'", "name: '*'"),
        ("name: 'X'", "name: 'a'"),
        ("name: 'DB-*'", "name: 'db-1'"),
        ("title: 'x'", "name: 'x'"),
        ("name: 'a*', title: x", "name: 'ab'"),
    ],
)
def test_a_rule_that_some_guest_may_reach_is_taken(earlier: str, later: str) -> None:
    assert faults(f"guests: [{{match: {{{earlier}}}}}, {{match: {{{later}}}}}]") == []


# --- the file itself -------------------------------------------------------------------------------------


def test_a_file_is_read_and_its_faults_carry_its_name(tmp_path: Path) -> None:
    path = tmp_path / "balloond.yaml"
    path.write_text("mode: observe\n")
    assert load(path) == Config(mode=Mode.OBSERVE)
    path.write_text("# é\nmode: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"^{path}:2: mode: 'x' is no mode"):
        load(path)


def test_the_defaults_stand_in_for_a_usual_file_only_where_there_surely_is_none(tmp_path: Path) -> None:
    usual = tmp_path / "balloond.yaml"
    assert load_usual(usual) == Config()
    usual.write_text("mode: observe\n")
    assert load_usual(usual) == Config(mode=Mode.OBSERVE)
    with pytest.raises(ConfigError):
        load_usual(usual / "inside")  # nobody can look there
    dangling = tmp_path / "dangling.yaml"
    dangling.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError):
        load_usual(dangling)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"mode: active\n# caf\xe9\n", ":2: (file): not UTF-8; save the file in UTF-8"),
        (b"\n\n# caf\xe9", ":3: (file): not UTF-8; save the file in UTF-8"),
        (b"\n\nmode: a\0\n\n\n", ":3: (file): holds a character that can't stand in YAML; remove it"),
        ("mode: active".encode("utf-16"), ":1: (file): not UTF-8; save the file in UTF-8"),
        (b"mode: active\n\0", ":2: (file): holds a character that can't stand in YAML; remove it"),
        (b"#" * (LARGEST_FILE + 1), f":1: (file): longer than {LARGEST_FILE} bytes; use patterns"),
    ],
)
def test_a_file_that_is_no_text_is_told(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "balloond.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}{fault}")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("missing.yaml", "can't be read: No such file or directory; name a file that exists"),
        ("", "this is no regular file; name a YAML file"),
        ("file/inside", "can't be read: Not a directory"),
        ("loop", "can't be read: "),
        ("zero\0byte", "can't be read: embedded null byte"),
        ("x" * 300, "can't be read: File name too long"),
    ],
)
def test_a_file_that_can_not_be_read_is_told(tmp_path: Path, name: str, fault: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / name)
    assert str(caught.value).startswith(f"{escape(str(tmp_path / name))}:1: (file): {fault}")


def test_a_file_may_be_as_large_as_the_limit_itself(tmp_path: Path) -> None:
    path = tmp_path / "balloond.yaml"
    path.write_bytes(b"#" * LARGEST_FILE)
    assert load(path) == Config()


def test_a_file_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the kernel's answer is played here."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match="can't be read: Permission denied"):
        load(tmp_path / "balloond.yaml")


def test_a_device_is_refused_unopened() -> None:
    with pytest.raises(ConfigError, match="this is no regular file"):
        load(Path("/dev/zero"))


def test_the_least_sizes_are_themselves_taken() -> None:
    config = read("host: {memory: 4096TiB}\ndefaults: {minimum: 96MiB}", "f")
    assert config.defaults.minimum == Amount(size=96 * MIB)
