from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ModernBertConfig,
    ModernBertForTokenClassification,
    PreTrainedTokenizerFast,
)

from reviewsum_assets.errors import EvaluationError
from reviewsum_assets.evaluation.entailment import EntailmentModel
from reviewsum_assets.evaluation.opinions import AllReviews, opinions_of

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "sound", "bad", "battery", ".")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A token classifier with random weights, and a window of 128 tokens."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    ).save_pretrained(tmp_path)
    config = ModernBertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        num_labels=2,
        pad_token_id=0,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    ModernBertForTokenClassification(config).save_pretrained(tmp_path)
    return tmp_path


def marking(directory: Path, label: int) -> EntailmentModel:
    """The model, made to give every token this label."""
    model = ModernBertForTokenClassification.from_pretrained(directory)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias[label] = 9.0
        model.classifier.bias[1 - label] = -9.0
    model.save_pretrained(directory)
    return EntailmentModel.load(directory)


def test_the_share_of_marked_words_is_that_of_the_model(directory: Path) -> None:
    pytest.importorskip("lettucedetect")
    reviews = ["Good sound.", "Bad battery."]
    assert marking(directory, 1).unsupported_share("Good sound, bad battery.", reviews) == 1
    assert marking(directory, 0).unsupported_share("Good sound, bad battery.", reviews) == 0
    model = marking(directory, 1)
    assert model.unsupported_share("", reviews) == 0
    found = opinions_of("Good sound.", AllReviews(reviews, [5.0, 1.0]), model)
    assert found.unsupported_words == 1


def test_the_first_reviews_that_fit_are_the_context(directory: Path) -> None:
    pytest.importorskip("lettucedetect")
    model = EntailmentModel.load(directory)
    assert model.window == 128
    many = [f"good sound . {number}" for number in range(50)]
    context = list(model._context("bad battery .", many))
    assert 1 < len(context) < 12
    assert context == many[: len(context)]
    assert len(model.detector.detector._group_passages_into_chunks(context, None, "bad")) == 1
    assert list(model._context("bad", ["good " * 999, "sound"])) == ["good " * 999]


def test_another_model_or_none_is_refused(directory: Path, tmp_path: Path) -> None:
    pytest.importorskip("lettucedetect")
    with pytest.raises(EvaluationError, match=r"no such directory.* To fix: name a directory"):
        EntailmentModel.load(tmp_path / "absent")
    ModernBertForTokenClassification.from_pretrained(directory).model.save_pretrained(directory)
    with pytest.raises(EvaluationError, match="it has ModernBertModel, which classifies no tokens"):
        EntailmentModel.load(directory)


def test_without_the_library_the_command_to_install_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lettucedetect.models.inference", None)
    with pytest.raises(EvaluationError, match=r"pip install 'reviewsum_assets\[entailment\]'"):
        EntailmentModel.load(tmp_path)
