"""Every number and every word that a public constructor or loss takes is refused where it is given, by its name, if it cannot be right."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from torch import nn

from lightning_reid.arguments import LARGEST_SIDE, checked_image_size, require_choice, require_count, require_number, shown
from lightning_reid.datamodules.transforms import EvaluationTransform
from lightning_reid.federated import FedPav
from lightning_reid.federation import Federation
from lightning_reid.federation.server import FederationServer
from lightning_reid.metrics import ProtocolStamp, ShownBoxes, TrueBoxes
from lightning_reid.networks import EmbeddingNetwork, VideoResNet50, build_backbone
from lightning_reid.normalization import normalize_images
from lightning_reid.records import ImageRecord, ReIDDataset

NARROW = {"channels": [16, 16, 16, 16], "layers": [1, 1, 1, 1]}
TINY = {"backbone": "resnet18", "backbone_options": NARROW}
PACKAGES = (
    "modules",
    "callbacks",
    "datamodules",
    "metrics",
    "federated",
    "federation",
    "inference",
    "networks",
    "detection",
    "losses",
    "pipeline",
)
NONE = torch.zeros(0, dtype=torch.int64)
NOBODY = (TrueBoxes(NONE, NONE.new_zeros(0, 4).float(), NONE, NONE), ShownBoxes(NONE, NONE.new_zeros(0, 4).float(), NONE, NONE))
PEOPLE = ReIDDataset("people", tuple(ImageRecord(f"{row}.jpg", 1 + row % 3, row % 2) for row in range(12)))
TWO_BY_TWO, FOUR = torch.eye(4), torch.tensor([0, 0, 1, 1])


@cache
def embedding_network() -> EmbeddingNetwork:
    return EmbeddingNetwork(build_backbone("resnet18", **NARROW))


@cache
def video_network() -> VideoResNet50:
    return VideoResNet50("resnet18", **NARROW)


def server(**options: Any) -> None:
    FederationServer.__init__(
        object.__new__(Federation), FedPav(), {"network.weight": torch.ones(1)}, ["a"], **{"output": "nowhere", **options}
    )


NEEDED: dict[str, Callable[[], dict[str, Any]]] = {
    "Reassociation": lambda: {"gaps": [1]},
    **dict.fromkeys(("HSR", "SGCDPL", "BottomUpReID", "FedUReIDClient", "ImageReIDModule", "SupervisedReID"), lambda: TINY),
    "DistilledReID": lambda: {"student": "resnet18", "backbone_options": NARROW},
    "FedFRClient": lambda: {"num_local": 2, "num_public": 2, **TINY},
    "EmbeddingNetwork": lambda: {"backbone": embedding_network().backbone},
    "ReIDModule": lambda: {"network": embedding_network()},
    "MeasuredScores": lambda: {"stamp": ProtocolStamp("people", 1, 1, 1), "scores": {"mAP": 1.0}},
    "VideoReID": lambda: {"network": video_network()},
    "CAIEPruning": lambda: {"constraints": {"flops": 0.5}},
    "CPOPruning": lambda: {"expected_drop": 0.1},
    "RedetectAndLink": lambda: {"detector": None, "extractor": embedding_network(), "cache": "nowhere"},
    "PublicAndLocalDataModule": lambda: {"local": PEOPLE, "public": PEOPLE},
    **dict.fromkeys(("NVAN", "STENVAN", "VideoResNet50", "CFAAN"), lambda: {"backbone": embedding_network().backbone}),
    "Federation": lambda: {"strategy": FedPav(), "clients": [], "output": "nowhere"},
    **dict.fromkeys(("OnnxDetector", "OnnxEmbedder"), lambda: {"path": "nowhere.onnx"}),
    "TrackedCamera": lambda: {"times": torch.zeros(0, dtype=torch.float64), "true": NOBODY[0], "shown": NOBODY[1]},
    "YoloHead": lambda: {"layout": "yolox"},
    "TorchvisionDetector": lambda: {"model": nn.Linear(1, 1)},
    "augmented_triplet_loss": lambda: {"embeddings": TWO_BY_TWO, "rows": FOUR},
    **dict.fromkeys(("batch_hard_triplet_loss", "weighted_triplet_loss"), lambda: {"embeddings": TWO_BY_TWO, "labels": FOUR}),
    "masked_weighted_triplet_loss": lambda: {
        "embeddings": TWO_BY_TWO,
        "positives": FOUR[:, None] == FOUR,
        "negatives": FOUR[:, None] != FOUR,
    },
    **dict.fromkeys(("label_smoothed_cross_entropy",), lambda: {"logits": TWO_BY_TWO, "labels": FOUR}),
    "least_squares_gan": lambda: {"scores": TWO_BY_TWO},
    "cosface_loss": lambda: {"cosines": TWO_BY_TWO, "labels": FOUR},
    "one_vs_all_loss": lambda: {"cosines": TWO_BY_TWO, "bias": torch.zeros(4), "labels": FOUR},
    "distillation_loss": lambda: {"student_logits": TWO_BY_TWO, "teacher_logits": TWO_BY_TWO, "labels": FOUR},
    "relational_distance_loss": lambda: {"student": TWO_BY_TWO, "teacher": TWO_BY_TWO},
    "identity_losses": lambda: {"logits": TWO_BY_TWO, "embeddings": TWO_BY_TWO, "pids": FOUR},
    "model_contrastive_loss": lambda: {"embeddings": TWO_BY_TWO, "of_global": TWO_BY_TWO, "of_previous": TWO_BY_TWO},
    "repelled_loss": lambda: {"embeddings": TWO_BY_TWO, "labels": FOUR, "table": TWO_BY_TWO},
}
"""What a call needs beside the argument that is tried."""

RESULTS = {
    "FilterPruning",
    "Calibration",
    "CameraPairs",
    "PairDistances",
    "ProtocolStamp",
    "RetrievalScores",
    "ChannelPlan",
    "Client",
    "LocalTraining",
    "Detections",
    "EmbeddedImages",
    "IdentityLosses",
}
"""Not called by users, whose children are tried, or made of what was computed."""

ALLOWED: dict[str, tuple[Any, ...]] = {
    "seed": (10**18,),  # any number below 2^63 is one
    "split_seed": (10**18,),
    "threshold": (-1,),  # a cosine
    "reference": (-1,),  # of any metric that a user validates by
    "min_margin": (-1,),  # from a support vector machine's hyperplane: there are people on the other side, too
    "preference": (-1,),  # of affinity propagation: usually negative
}
"""By argument, what is tried below and can be meant."""

WRONG_NUMBERS = (math.nan, math.inf, -math.inf, -1, 10**18, 1e300, 10**5000, "3", True, [1], torch.tensor(1.0))


def kinds(annotation: Any) -> set[Any]:
    """The types of which an argument may be, unions and literals taken apart."""
    if get_origin(annotation) in (Union, UnionType):
        return set().union(*(kinds(one) for one in get_args(annotation)))
    return {Literal} if get_origin(annotation) is Literal else {annotation}


def public_calls() -> dict[str, Callable[..., Any]]:
    calls: dict[str, Callable[..., Any]] = {"FederationServer": server}
    for package in PACKAGES:
        module = import_module(f"lightning_reid.{package}")
        for name in module.__all__:
            made = getattr(module, name)
            called = inspect.isclass(made) if package != "losses" else inspect.isfunction(made)
            if called and name not in RESULTS and not getattr(made, "_is_protocol", False):
                calls[name] = made
    return calls


CALLS = public_calls()


def arguments() -> list[tuple[str, str, Any]]:
    found = []
    for name, call in CALLS.items():
        takes = FederationServer.__init__ if name == "FederationServer" else call.__init__ if inspect.isclass(call) else call
        hints = typing.get_type_hints(takes)
        handed_on = ("lr", "optimizer") if name in ("HSR", "SGCDPL") else ()  # to ReIDModule, when the network is built
        found += [(name, argument, kinds(hint)) for argument, hint in hints.items() if argument not in ("return", *handed_on)]
    return found


NUMBERS = [(name, argument) for name, argument, kind in arguments() if kind & {int, float}]
WORDS = [(name, argument) for name, argument, kind in arguments() if Literal in kind and kind <= {Literal, NoneType}]
SWITCHES = [(name, argument) for name, argument, kind in arguments() if bool in kind]
PATHS = [(name, argument) for name, argument, kind in arguments() if kind & {str, Path} and kind <= {str, Path, NoneType}]
SIZES = [(name, argument) for name, argument, kind in arguments() if argument == "image_size"]


def call(name: str, argument: str, value: Any) -> None:
    """A network that is built already is not built for each value."""
    made = CALLS[name]
    if name == "ReIDModule":
        made = type("Embeds", (CALLS["ReIDModule"],), {"embed_batch": lambda self, batch: None})
    made(**{**NEEDED.get(name, dict)(), argument: value})


def test_the_walk_finds_what_there_is():
    assert ("ReIDModule", "lr") in NUMBERS
    assert ("FedFRClient", "temperature") in NUMBERS
    assert ("FederationServer", "deadline") in NUMBERS
    assert ("batch_hard_triplet_loss", "margin") in NUMBERS
    assert ("ReIDModule", "optimizer") in WORDS
    assert len(NUMBERS) > 120
    assert len(WORDS) > 30
    assert ("ImageReIDDataModule", "allow_paths_outside") in SWITCHES
    assert ("CPOPruning", "metric") in PATHS
    assert len(SWITCHES) > 30
    assert len(PATHS) > 25


@pytest.mark.parametrize(("name", "argument"), NUMBERS, ids=lambda one: one)
def test_a_number_that_cannot_be_right_is_refused_at_once_by_name(name, argument):
    for value in WRONG_NUMBERS:
        if any(value is allowed or value == allowed for allowed in ALLOWED.get(argument, ()) if not isinstance(value, torch.Tensor)):
            call(name, argument, value)
            continue
        with pytest.raises(ValueError, match=rf"{argument.removeprefix('label_')} must ") as caught:
            call(name, argument, value)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("name", "argument"), WORDS, ids=lambda one: one)
def test_a_word_that_is_not_known_is_refused_at_once_by_name(name, argument):
    for value in ("zz", 3, ["zz"]):
        with pytest.raises(ValueError, match=rf"{argument} must be one of"):
            call(name, argument, value)


@pytest.mark.parametrize(("name", "argument"), SWITCHES, ids=lambda one: one)
def test_what_is_neither_on_nor_off_is_refused_at_once_by_name(name, argument):
    for value in ("no", "false", 1, 0, None, math.nan):
        with pytest.raises(ValueError, match=rf"{argument} must be True or False, got"):
            call(name, argument, value)


@pytest.mark.parametrize(("name", "argument"), PATHS, ids=lambda one: one)
def test_what_is_no_text_is_refused_at_once_by_name(name, argument):
    for value in (math.nan, 3, True, b"a", ["a"]):
        with pytest.raises(ValueError, match=rf"{argument} must be a string"):
            call(name, argument, value)


NO_SIZES = [(0, 64), (64,), (64, 32, 3), "64x32", (64.0, 32.0), (True, True), (10**9, 32), 64, None]
OWN_SIZE = {"EmbeddingPass", "OnnxEmbedder"}
"""``None`` is the size that the network was trained on, or takes."""


@pytest.mark.parametrize(
    ("name", "argument", "size"),
    [(*one, size) for one in SIZES for size in NO_SIZES if size is not None or one[0] not in OWN_SIZE],
    ids=str,
)
def test_a_size_of_images_that_cannot_be_is_refused_at_once(name, argument, size):
    with pytest.raises(ValueError, match=r"image_size must be height and width from 1 to 4,096 pixels"):
        call(name, argument, size)


@pytest.mark.parametrize(("name", "argument"), [("CPOPruning", "ignored"), ("FedPav", "prefixes")])
@pytest.mark.parametrize("value", ["abc", math.nan, 3, None, [3]], ids=str)
def test_several_words_are_a_list_of_them(name, argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be a list of strings, got"):
        call(name, argument, value)


@pytest.mark.parametrize("milestones", [[-1], [2.5], ["10"], [True], [math.nan]], ids=str)
def test_milestones_are_whole_numbers(milestones):
    with pytest.raises(ValueError, match="milestones must be a whole number of at least 0"):
        call("ReIDModule", "milestones", milestones)


def test_the_ends_of_a_range_are_as_they_are_written():
    require_number("share", 0, low=0, high=1)
    require_number("share", 1.0, low=0, high=1)
    require_number("share", None, low=0, optional=True)
    require_number("share", np.float32(0.5), above=0, below=1)
    require_count("k", np.int64(3))
    for value in (0, 1):
        with pytest.raises(ValueError, match=rf"share must be a number in \(0, 1\), got {value}"):
            require_number("share", value, above=0, below=1)
    with pytest.raises(ValueError, match=r"k must be a whole number in 2\.\.4, or None, got 5"):
        require_count("k", 5, low=2, high=4, optional=True)
    with pytest.raises(ValueError, match="form must be one of 'a', 'b', or None, got 'c'"):
        require_choice("form", "c", ("a", "b"), optional=True)
    assert checked_image_size("image_size", [LARGEST_SIDE, 1]) == (LARGEST_SIDE, 1)


@pytest.mark.parametrize("size", [(2, 1), (1, 2)])
def test_the_smallest_images_that_are_taken_are_resized_and_embedded_and_a_smaller_one_is_refused(size):
    image = EvaluationTransform(checked_image_size("image_size", size))(torch.zeros(3, 64, 32, dtype=torch.uint8))
    assert embedding_network().eval()(normalize_images(image[None])).embedding.shape == (1, 16)
    with pytest.raises(ValueError, match=r"image_size must be height and width from 1 to 4,096 pixels, not both 1, got \[1, 1\]"):
        checked_image_size("image_size", [1, 1])


def test_a_message_is_short_whatever_the_value_is():
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    for value in (10**100_000, [10**100_000], nested, "x" * 10**6, {"a": [1] * 10**6}, torch.zeros(1000)):
        assert len(shown(value)) <= 120
