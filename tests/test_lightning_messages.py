"""What recipes let Lightning say."""

from __future__ import annotations

import logging

import pytest

from lightning_reid.lightning_messages import SaidOnce, say_each_thing_once


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("pytorch_lightning", level, "", 0, text, (), None)


def test_a_message_is_shown_once_and_an_advertisement_never():
    once = SaidOnce()
    assert [once.filter(record(text)) for text in ("GPU available: False", "GPU available: False", "TPU available: False")] == [1, 0, 1]
    assert not once.filter(record("\N{ELECTRIC LIGHT BULB} Tip: install something"))
    assert all(once.filter(record("it broke", logging.ERROR)) for _ in range(2))


def test_lightnings_handlers_are_quietened_once_however_often_it_is_asked_for():
    handler = logging.StreamHandler()
    logger = logging.getLogger("pytorch_lightning")
    logger.addHandler(handler)
    try:
        for _ in range(3):
            say_each_thing_once()
        assert [type(one) for one in handler.filters] == [SaidOnce]
    finally:
        logger.removeHandler(handler)


def test_a_handler_of_somebody_else_has_everything(tmp_path):
    handler = logging.FileHandler(tmp_path / "log.txt")
    logger = logging.getLogger("pytorch_lightning")
    logger.addHandler(handler)
    try:
        say_each_thing_once()
        assert handler.filters == []
    finally:
        logger.removeHandler(handler)
        handler.close()


@pytest.mark.parametrize("text", ["The number of training batches (4) is smaller than the logging interval Trainer(log_every_n_steps=10)."])
def test_a_warning_that_nobody_can_act_on_is_not_shown(text, recwarn):
    import warnings

    say_each_thing_once()
    warnings.warn(text, stacklevel=1)
    warnings.warn("another", stacklevel=1)
    assert [str(one.message) for one in recwarn] == ["another"]
