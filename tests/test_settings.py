from __future__ import annotations

import os

import pytest

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import Settings, load_automation_settings, load_settings


def test_defaults_are_those_of_the_script_this_replaces() -> None:
    settings = load_settings()
    assert (settings.top_k, settings.checkpoint_size) == (30700, 100)
    assert (settings.max_chars, settings.chunk_tokens, settings.encoder_tokens) == (3500, 300, 512)
    assert (settings.num_beams, settings.max_length, settings.min_length) == (3, 128, 32)
    assert (settings.length_penalty, settings.early_stopping) == (0.8, True)
    assert (settings.batch_size, settings.chunk_batch_size) == (40, 12)
    assert [name for name, one in Settings.model_fields.items() if not one.description] == []


@pytest.mark.parametrize(
    ("variable", "value", "setting", "expected"),
    [
        ("NUM_BEAMS", "5", "num_beams", 5),
        ("END_PRODUCT", "200", "top_k", 200),
        ("DUMPS", os.pathsep.join(["/a.json", "/b.tsv"]), "dumps", ("/a.json", "/b.tsv")),
        ("SUBNETS", "a, b,", "subnets", ("a", "b")),
        ("JOB_TAGS", "team=x,cost=a=b", "job_tags", {"team": "x", "cost": "a=b"}),
        ("LAKE", "", "lake", "reviewsum_lake"),
        ("TOPK", "", "top_k", 30700),
    ],
)
def test_a_variable_sets_a_setting_unless_it_is_empty(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str, expected: object
) -> None:
    monkeypatch.setenv(f"REVIEWSUM_{variable}", value)
    assert getattr(load_settings(), setting) == expected
    assert load_settings(num_beams=7).num_beams == 7
    assert load_automation_settings().smtp_port == 0


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("REVIEWSUM_TOPK", "REVIEWSUM_TOPK is not a setting (did you mean REVIEWSUM_TOP_K?):"),
        ("REVIEWSUM_SMTP_PORTS", "did you mean REVIEWSUM_SMTP_PORT?"),
        ("reviewsum_xyzzy", "reviewsum_xyzzy is not a setting (docs/settings.md lists all"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_one_it_may_have_meant(
    monkeypatch: pytest.MonkeyPatch, variable: str, hint: str
) -> None:
    monkeypatch.setenv(variable, "5")
    for load in (load_settings, load_automation_settings):
        with pytest.raises(SettingsError) as caught:
            load()
        assert hint in str(caught.value)


def test_variables_of_the_project_and_of_services_near_it_are_no_mistakes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "REVIEWSUM_LOG_LEVEL": "DEBUG",
        "REVIEWSUM_SPEC_HASH": "0f",
        "REVIEWSUM_TEST_KILLS": "3",
        "REVIEWSUM_SERVICE_HOST": "10.0.0.1",
        "REVIEWSUM_UI_PORT": "tcp://10.0.0.1:3000",
        "REVIEWSUM_UI_PORT_3000_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    assert load_settings().top_k == 30700


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"topk": 5}, "topk"),
        ({"lake": ""}, "lake: String should have at least 1 character"),
        ({"min_length": 200}, "min_length 200 must be below max_length 128"),
        ({"chunk_tokens": 600}, "^chunk_tokens 600 must not exceed encoder_tokens 512"),
        ({"strategy": "hierarchical", "max_length": 300}, "must be at most half of encoder_tokens"),
        ({"strategy": "two_sided", "max_length": 300}, "strategy two_sided joins two summaries"),
        ({"alert_email_to": "one@example.com"}, "needs alert_email_from and smtp_host"),
        ({"job_tags": "secret"}, "expected NAME=VALUE"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(
    values: dict[str, object], problem: str
) -> None:
    with pytest.raises(SettingsError, match=problem):
        load_settings(**values)
