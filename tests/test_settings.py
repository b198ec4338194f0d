from __future__ import annotations

import os

import pytest

from reviewsum_assets.errors import SettingsError
from reviewsum_assets.settings import load_automation_settings, load_settings


def test_defaults_are_those_of_the_script_this_replaces() -> None:
    settings = load_settings()
    assert (settings.top_k, settings.checkpoint_size) == (30700, 100)
    assert (settings.max_chars, settings.chunk_tokens, settings.encoder_tokens) == (3500, 300, 512)
    assert (settings.num_beams, settings.max_length, settings.min_length) == (3, 128, 32)
    assert (settings.length_penalty, settings.early_stopping) == (0.8, True)
    assert (settings.batch_size, settings.chunk_batch_size) == (40, 12)


def test_every_setting_has_a_description() -> None:
    fields = type(load_settings()).model_fields
    assert [name for name, field in fields.items() if not field.description] == []


def test_a_variable_sets_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWSUM_NUM_BEAMS", "5")
    assert load_settings().num_beams == 5


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LAKE", "TOP_K", "SMTP_PORT", "TOPK"):
        monkeypatch.setenv(f"REVIEWSUM_{name}", "")
    monkeypatch.setenv("REVIEWSUM_END_PRODUCT", "200")
    assert (load_settings().lake, load_settings().top_k) == ("reviewsum_lake", 200)
    assert load_automation_settings().smtp_port == 0


def test_an_empty_lake_is_not_the_working_directory() -> None:
    with pytest.raises(SettingsError, match="lake: String should have at least 1 character"):
        load_settings(lake="")


def test_an_override_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWSUM_TOP_K", "5")
    assert load_settings(top_k=7).top_k == 7


def test_end_product_is_another_name_of_top_k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWSUM_END_PRODUCT", "200")
    assert load_settings().top_k == 200


def test_dumps_are_separated_like_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWSUM_DUMPS", os.pathsep.join(["/a.json", "/b.tsv"]))
    assert load_settings().dumps == ("/a.json", "/b.tsv")


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(SettingsError, match="topk"):
        load_settings(topk=5)


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("REVIEWSUM_TOPK", "REVIEWSUM_TOPK is not a setting (did you mean REVIEWSUM_TOP_K?):"),
        ("REVIEWSUM_MAX_COST", "did you mean REVIEWSUM_MAX_COST_USD?"),
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


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SettingsError, match="min_length 200 must be below max_length 128"):
        load_settings(min_length=200)


def test_chunks_longer_than_the_encoder_reads_are_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(chunk_tokens=600)
    assert str(caught.value).startswith("chunk_tokens 600 must not exceed encoder_tokens 512: the")


def test_two_summaries_that_the_encoder_would_cut_are_refused_where_they_are_joined() -> None:
    with pytest.raises(SettingsError, match="max_length 300 must be at most half of encoder_token"):
        load_settings(strategy="hierarchical", max_length=300)
    assert load_settings(max_length=300).strategy == "join"


def test_the_batch_budget_follows_from_chunks_unless_given() -> None:
    engine = load_settings().engine_settings()
    assert engine.tokens_per_batch(300, None) == 3_600
    assert engine.tokens_per_batch(300, 0) == 36_000
    given = load_settings(batch_tokens=1000).engine_settings()
    assert given.tokens_per_batch(300, 22.5) == 1_000


@pytest.mark.parametrize(
    ("gpu_gib", "tokens", "products"),
    [(3.0, 3_600, 40), (15.0, 21_300, 238), (22.5, 36_000, 400), (45.0, 79_800, 886)],
)
def test_batches_follow_the_memory_of_the_gpu(gpu_gib: float, tokens: int, products: int) -> None:
    engine = load_settings().engine_settings()
    assert engine.tokens_per_batch(300, gpu_gib) == tokens
    assert engine.pool_products(gpu_gib) == products


def test_an_alert_by_email_needs_a_sender_and_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWSUM_ALERT_EMAIL_TO", "one@example.com,two@example.com")
    with pytest.raises(SettingsError, match="needs alert_email_from and smtp_host"):
        load_automation_settings()
    monkeypatch.setenv("REVIEWSUM_ALERT_EMAIL_FROM", "alerts@example.com")
    monkeypatch.setenv("REVIEWSUM_SMTP_HOST", "mail.example.com")
    assert load_automation_settings().alert_email_to == ("one@example.com", "two@example.com")
