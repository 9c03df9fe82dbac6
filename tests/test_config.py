"""Every way in which a table can be wrong is one line that says where, what was got and what was meant."""

from typing import Literal

import pytest

from golfzoo import Config, option
from golfzoo.config import suggest, type_name


class Inner(Config):
    depth: int = option(1, "how deep")


class Sample(Config):
    level: int = option(9, "a level", ge=0, le=9)
    rate: float = option(0.5, "a rate")
    mode: Literal["auto", "on"] = option("auto", "a mode")
    names: tuple[str, ...] = option(("a",), "names")
    flag: bool = option(False, "a flag")
    inner: Inner | None = option(None, "a table")

    def check(self) -> None:
        if self.flag and self.level == 0:
            raise ValueError("flag needs a level above 0, got 0")


def problems(table):
    config, found = Sample.read(table, "x.toml: [sample]")
    assert config is None
    return found


def test_reads_what_fits():
    config, found = Sample.read({"level": 3, "rate": 1, "names": ["b", "c"], "inner": {"depth": 2}}, "")
    assert found == []
    assert (config.level, config.rate, config.names, config.inner.depth) == (3, 1.0, ("b", "c"), 2)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ({"levle": 3}, "x.toml: [sample]: unknown key 'levle'; did you mean 'level'?"),
        ({"zzz": 3}, "x.toml: [sample]: unknown key 'zzz'; known: flag, inner, level, mode, names, rate"),
        ({"level": "3"}, "x.toml: [sample].level: should be a valid integer, got '3'"),
        ({"level": True}, "x.toml: [sample].level: should be a valid integer, got True"),
        ({"level": 3.0}, "x.toml: [sample].level: should be a valid integer, got 3.0"),
        ({"level": 10}, "x.toml: [sample].level: should be less than or equal to 9, got 10"),
        ({"rate": ".5"}, "x.toml: [sample].rate: should be a valid number, got '.5'; write 0.5, not .5"),
        ({"mode": "off"}, "x.toml: [sample].mode: should be 'auto' or 'on', got 'off'"),
        ({"flag": 1}, "x.toml: [sample].flag: should be a valid boolean, got 1"),
        ({"inner": {"dpeth": 1}}, "x.toml: [sample].inner: unknown key 'dpeth'; did you mean 'depth'?"),
        ({"flag": True, "level": 0}, "x.toml: [sample]: flag needs a level above 0, got 0"),
    ],
)
def test_says_what_is_wrong(table, line):
    assert problems(table) == [line]


def test_reports_everything_at_once():
    assert len(problems({"level": "x", "rate": "y", "colour": 1})) == 3


def test_refuses_dates():
    import datetime

    assert problems({"names": [datetime.date(2026, 1, 1)]}) == [
        "x.toml: [sample].names: dates are not used in records, got 2026-01-01"
    ]


def test_suggest_and_type_names():
    assert suggest("quantiser", ["quantizer", "optimizer"]) == "; did you mean 'quantizer'?"
    assert suggest("q", []) == ""
    assert type_name(Sample.model_fields["level"]) == "int"
    assert type_name(Sample.model_fields["mode"]) == "'auto' | 'on'"
    assert type_name(Sample.model_fields["names"]) == "tuple[str, ...]"
