"""How the devices of cameras learn together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from lightning_reid.arguments import require_choice, require_count, require_number, require_seed, require_switch
from lightning_reid.clustering.camera_labels import LabelMethod
from lightning_reid.clustering.memories import MemoryKind
from lightning_reid.federated.random_walk import WalkName
from lightning_reid.modules.tracklet import Negatives, TrackletClassifierInit

Unification = Literal["last", "average"]
LabelClassifier = Literal["walks", "local"]
Statistics = Literal["walk", "frozen", "averaged", "local"]


_OF_THE_TEXT = {
    **{"visits": 6, "alpha": 1},  # for Market-1501 and MARS
    **{"walk": "uniform", "classifier_init": "random", "memory": "sum", "centered": False, "method": "components"},
    **{"lr": 0.1, "walking_lr_factor": 1.0, "statistics": "walk"},
}


@dataclass(frozen=True)
class EdgeOptions:
    """How devices learn together. Defaults are decided here where the text says something else, which stands beside them.

    Attributes:
        visits: Laps of the first walk (the text trains 6 epochs a device on Market-1501 and MARS, 8 on DukeMTMC-reID, 3 on MSMT17).
        incremental_visits: Laps of the walk by labels across cameras.
        epochs: Of a visit. Short visits are the known cure of forgetting.
        walk: Where the model goes, see ``walk_order``.
        classifier_init: Rows of a new classifier; the text's is ``"random"``.
        memory: Of a tracklet; the text's is ``"sum"`` (eq. 4), whose distances follow the lengths of tracklets.
        centered: Each device takes the mean of its memories away before they are sent (ours).
        half: Send memories in half precision.
        alpha: Triangles of an edge (the text: 1 for Market-1501 and MARS, 2 for DukeMTMC-reID), or ``"auto"`` (ours).
        method: How labels follow from edges; ``"one_per_camera"`` is ours.
        repeated: Take edges away again and again.
        label_classifier: Of the walk by labels: it ``"walks"`` with the model, or a ``"local"`` one has rows for the labels that a device
            holds alone, begins each visit at their mean memories, and stays.
        label_init: Rows of a classifier that walks begin at the labels' mean ``"memories"``, or at ``"random"``.
        negatives: Of the walk by labels, see ``TrackletReID``.
        update_all: See ``TrackletReID``.
        statistics: Running statistics of the middle: they ``"walk"``, are ``"frozen"``, are ``"averaged"`` after the last visit, or are
            ``"local"``: they walk, and a camera's images are embedded with its own in the end (``EdgeDevice.statistics``).
        unify: The model of all is that of the ``"last"`` visit, or the ``"average"`` of the last lap's.
        cycles: How often the graph is made and learned, each time with labels of its own.
        lr: Of classifiers; the text's is 0.1, for large networks and long trainings.
        walking_lr_factor: Of the middle; the text's is 1.
        seed: Of everything that is drawn.

    Raises:
        ValueError: One is out of range; it is named.
    """

    visits: int = 6
    incremental_visits: int = 6
    epochs: int = 1
    walk: WalkName = "laps"
    classifier_init: TrackletClassifierInit = "memories"
    memory: MemoryKind = "mean"
    centered: bool = True
    half: bool = False
    alpha: int | Literal["auto"] = 1
    method: LabelMethod = "components"
    repeated: bool = False
    label_classifier: LabelClassifier = "walks"
    label_init: TrackletClassifierInit = "memories"
    negatives: Negatives = "all"
    update_all: bool = False
    statistics: Statistics = "walk"
    unify: Unification = "last"
    cycles: int = 1
    lr: float = 0.01
    walking_lr_factor: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("visits", "incremental_visits", "epochs", "cycles"):
            require_count(name, getattr(self, name))
        for name in ("centered", "half", "repeated", "update_all"):
            require_switch(name, getattr(self, name))
        choices = {"statistics": Statistics, "unify": Unification, "label_classifier": LabelClassifier, "walk": WalkName}
        choices |= {"memory": MemoryKind, "method": LabelMethod, "negatives": Negatives}
        choices |= dict.fromkeys(("classifier_init", "label_init"), TrackletClassifierInit)
        for name, kind in choices.items():
            require_choice(name, getattr(self, name), get_args(kind))
        require_number("lr", self.lr, above=0)
        require_number("walking_lr_factor", self.walking_lr_factor, above=0, high=1)
        require_seed("seed", self.seed)
        if self.alpha != "auto":
            require_count("alpha", self.alpha, low=0)

    def unlike_the_text(self) -> dict[str, tuple[object, object]]:
        """Options whose value is not the text's, where it has one: name to this value and the text's."""
        pairs = {name: (getattr(self, name), told) for name, told in _OF_THE_TEXT.items()}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def check_cameras(self, number: int) -> None:
        """Whether labels can be found across so many cameras, before anything is trained.

        Raises:
            ValueError: There is one, or no edge between them can have ``alpha`` triangles.
        """
        if number < 2:
            raise ValueError(f"labels across cameras need two devices or more, got {number}")
        most = number - 2
        if self.alpha != "auto" and self.alpha > most:
            raise ValueError(f"alpha={self.alpha}, and an edge between {number} cameras has at most {most} triangles: give at most {most}")
