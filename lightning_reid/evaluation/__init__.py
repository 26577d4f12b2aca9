"""How well a network finds people again: on test parts of data sets and in annotated videos. Needs no Trainer and imports no Lightning."""

from lightning_reid.evaluation.reassociation import boxes_to_reassociate, reassociate
from lightning_reid.evaluation.retrieval import EmbeddedTest, EvaluationScores, embed_test, evaluate_embedded

__all__ = [
    "EmbeddedTest",
    "EvaluationScores",
    "boxes_to_reassociate",
    "embed_test",
    "evaluate_embedded",
    "reassociate",
]
