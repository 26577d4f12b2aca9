"""Clustering the target images by affinity propagation, guided by labeled images or not, into hard or soft pseudo-labels."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, get_args

import pytorch_lightning as pl
import torch
from torch import Tensor
from typing_extensions import override

from lightning_reid.arguments import require_choice, require_count, require_number, require_path
from lightning_reid.callbacks.embedding_pass import target_data
from lightning_reid.callbacks.pictures import log_picture
from lightning_reid.callbacks.search_picture import draw_search
from lightning_reid.callbacks.target_clustering import FoundClusters, TargetClustering
from lightning_reid.clustering import affinity_propagation, semantics_guided_affinity_propagation, sparse_affinity_propagation
from lightning_reid.clustering.affinity_propagation import AffinityPropagation
from lightning_reid.clustering.distances import median_similarity, negative_squared_distances, sampled_median_similarity
from lightning_reid.clustering.preference_search import Probe
from lightning_reid.clustering.sparse_affinity_propagation import similarity_graph
from lightning_reid.files import write_atomically
from lightning_reid.records import IN_TRIPLET_LOSSES, LabeledEmbeddings, TargetState
from lightning_reid.selection import soft_pseudo_labels
from lightning_reid.selection.soft_labels import SoftLabelDistance, own_exemplar_distance

logger = logging.getLogger(__name__)

Preference = Literal["guided", "median"]
Temperature = Literal["own-exemplar"]
ONE_HOT = 0.99
"""Largest entry of a soft label, in the median, from which on labels are called one-hot."""


class AffinityPseudoLabels(TargetClustering):
    """Every n epochs: embed, cluster by (semantics-guided) affinity propagation, give hard or soft labels, publish a ``TargetState``.

    Source: SGC-DPL, sections 3.3.2 to 3.3.4 and 3.3.7. What is compared are the embeddings that the triplet loss compares: before the
    BNNeck, not normalized, by squared Euclidean distance. ``preference="guided"`` is SG-AP and wants a datamodule with labeled images;
    ``"median"``, or a number, is plain affinity propagation of the target images alone, the rows "AP" of Table 3.2.

    Logs beside what :class:`TargetClustering` logs ``cluster/iterations`` and ``cluster/converged`` of affinity propagation, and with
    ``"guided"`` ``cluster/preference`` (p*), ``cluster/labeled_exemplars`` beside ``cluster/labeled_identities``, and ``cluster/probes``.
    With soft labels also ``cluster/soft_max``, the largest entry of a label in the median over the images, and ``cluster/temperature``:
    from 0.99 on labels are one-hot, which is warned of.

    Args:
        every_n_epochs: Length of an iteration in epochs (section 3.4.3: 200).
        preference: ``"guided"`` searches p* by the labeled images (eq. 3.3), ``"median"`` is the median similarity of all pairs (the
            default of affinity propagation), a number stands for itself.
        labels: ``"soft"`` (eq. 3.5) or ``"hard"``.
        soft_distance: Of eq. 3.5, ``"squared"`` or ``"euclidean"``.
        temperature: Of eq. 3.5, above 0; the text has 1. Large is soft. ``"own-exemplar"`` (ours) takes the median distance of images to
            their own exemplar, of each clustering anew.
        damping: Share of the old message in the new, in [0.5, 1).
        max_iter: Iterations of affinity propagation at most.
        unconverged: Clusters of messages that did not settle are kept (``"keep"``, with a warning) or an error (``"refuse"``).
        neighbors: Pass messages between so many nearest neighbors only, where twice N^2 numbers do not fit into memory: N of MSMT17 takes
            8.5 GB, or 0.4 GB with 100 of them. Well above the images an identity has; ``None`` between all images.
        picture: PNG to write of the first and the last probe of the search for p*, by t-SNE, which W&B and TensorBoard show too
            (Fig. 3.4); only with ``"guided"``; ``None`` for none.

    Raises:
        ValueError: An argument is out of range (here), or labeled images are missing (``setup``).
        RuntimeError: The first clustering finds fewer than two clusters, or does not converge and ``unconverged="refuse"``.

    Example:
        >>> import torch
        >>> from lightning_reid.callbacks import AffinityPseudoLabels
        >>> embeddings = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])  # two people, three images each
        >>> found = AffinityPseudoLabels(preference="median", labels="hard").find_clusters(embeddings, None, None)
        >>> found.labels.tolist(), found.exemplars.tolist()
        ([0, 0, 0, 1, 1, 1], [1, 4])
    """

    def __init__(
        self,
        every_n_epochs: int = 200,
        preference: Preference | float = "guided",
        labels: Literal["soft", "hard"] = "soft",
        soft_distance: SoftLabelDistance = "squared",
        temperature: float | Temperature = 1.0,
        damping: float = 0.5,
        max_iter: int = 200,
        unconverged: Literal["keep", "refuse"] = "keep",
        neighbors: int | None = None,
        picture: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, IN_TRIPLET_LOSSES)
        if isinstance(preference, str):
            require_choice("preference", preference, get_args(Preference))
        else:
            require_number("preference", preference)
        require_choice("labels", labels, ("soft", "hard"))
        require_choice("soft_distance", soft_distance, get_args(SoftLabelDistance))
        require_choice("unconverged", unconverged, ("keep", "refuse"))
        require_number("damping", damping, low=0.5, below=1)
        require_count("max_iter", max_iter)
        if isinstance(temperature, str):
            require_choice("temperature", temperature, get_args(Temperature))
        else:
            require_number("temperature", temperature, above=0)
        require_count("neighbors", neighbors, optional=True)
        self.preference, self.labels, self.soft_distance, self.temperature = preference, labels, soft_distance, temperature
        self.damping, self.max_iter, self.unconverged = damping, max_iter, unconverged
        require_path("picture", picture, optional=True)
        self.neighbors, self.picture = neighbors, None if picture is None else Path(picture)
        self.needs_labeled = preference == "guided"
        self._probes: list[tuple[Probe, AffinityPropagation]] = []

    @override
    def find_clusters(self, embeddings: Tensor, labeled: LabeledEmbeddings | None, previous: TargetState | None) -> FoundClusters:
        clusters, metrics = self._guided(embeddings, labeled) if self.preference == "guided" else self._plain(embeddings)
        soft = None
        if self.labels == "soft" and len(clusters.exemplars):
            soft, told = self._soft(embeddings, clusters)
            metrics |= told
        metrics |= {"cluster/iterations": float(clusters.iterations), "cluster/converged": float(clusters.converged)}
        return FoundClusters(clusters.labels, clusters.exemplars, soft, metrics)

    def _soft(self, embeddings: Tensor, clusters: AffinityPropagation) -> tuple[Tensor, dict[str, float]]:
        """Soft labels and how soft they are."""
        if isinstance(self.temperature, str):
            temperature = own_exemplar_distance(embeddings, clusters.labels, clusters.exemplars, distance=self.soft_distance)
        else:
            temperature = float(self.temperature)
        soft = soft_pseudo_labels(embeddings, embeddings[clusters.exemplars], distance=self.soft_distance, temperature=temperature)
        largest = float(soft.amax(1).median())
        if largest >= ONE_HOT and len(clusters.exemplars) > 1:
            logger.warning(
                "soft labels are one-hot: the largest entry is %.4g in the median, at a temperature of %.4g. They are hard labels but for"
                " their name: give a larger temperature, or temperature='own-exemplar'",
                largest,
                temperature,
            )
        return soft, {"cluster/soft_max": largest, "cluster/temperature": temperature}

    def _plain(self, embeddings: Tensor) -> tuple[AffinityPropagation, dict[str, float]]:
        options: dict[str, Any] = {"damping": self.damping, "max_iter": self.max_iter, "unconverged": self.unconverged}
        if self.neighbors is not None:
            graph = similarity_graph(embeddings, self.neighbors)
            preference = sampled_median_similarity(embeddings) if self.preference == "median" else float(self.preference)
            return sparse_affinity_propagation(graph, preference, **options), {"cluster/preference": preference}
        similarity = negative_squared_distances(embeddings)
        preference = median_similarity(similarity) if self.preference == "median" else float(self.preference)
        return affinity_propagation(similarity, preference, **options), {"cluster/preference": preference}

    def _guided(self, embeddings: Tensor, labeled: LabeledEmbeddings | None) -> tuple[AffinityPropagation, dict[str, float]]:
        if labeled is None:
            raise ValueError("preference='guided' searches p* by labeled images, got none: give labeled=, or preference='median'")
        found = semantics_guided_affinity_propagation(
            labeled.embeddings,
            labeled.pids,
            embeddings[len(labeled.pids) :] if labeled.among_target else embeddings,
            with_labeled=labeled.among_target,
            neighbors=self.neighbors,
            damping=self.damping,
            max_iter=self.max_iter,
            unconverged=self.unconverged,
            on_probe=self._watch,
        )
        search = found.search
        log = logger.info if search.matched else logger.warning
        log("p* = %.4g after %d probes: %s", search.preference, len(search.history), search.reason)
        return found.clusters, {
            "cluster/preference": search.preference,
            "cluster/labeled_exemplars": float(search.count),
            "cluster/labeled_identities": float(search.wanted),
            "cluster/probes": float(len(search.history)),
            "cluster/violations": float(len(search.violations)),
        }

    def _watch(self, probe: Probe, clusters: AffinityPropagation) -> None:
        if self.picture is not None:
            self._probes = [*self._probes[:1], (probe, clusters)]  # Fig. 3.4 shows the first and the last

    @override
    def report(self, trainer: pl.Trainer, state: TargetState, more: dict[str, float]) -> None:
        super().report(trainer, state, more)
        if self.picture is None or not self._probes or not trainer.is_global_zero:
            return
        labeled = state.embedded_labeled
        embeddings, pids = state.embedded, target_data(trainer, self).ground_truth()
        if not labeled.among_target:
            embeddings, pids = torch.cat([labeled.embeddings, embeddings]), torch.cat([labeled.pids + 1, pids])
        wanted = int(more["cluster/labeled_identities"])
        clusterings = {
            f"{name} probe, p = {probe.preference:.3g}: {probe.count} exemplars for {wanted} labeled identities": clusters.labels
            for name, (probe, clusters) in zip(("first", "last"), self._probes)
        }
        figure = draw_search(embeddings, pids, len(labeled.pids), clusterings)
        if figure is not None:
            write_atomically(self.picture, lambda file: figure.savefig(file, dpi=120))
            log_picture(trainer, "cluster/search", self.picture)
        self._probes = []

    @override
    def settings_text(self) -> str:
        return f"affinity propagation with preference={self.preference!r}, damping={self.damping}"

    @override
    def way_on(self, num_clusters: int) -> str:
        if num_clusters == 0:
            return "Raise damping (0.9) or max_iter: no exemplar emerged"
        return "Give a larger preference, or start from a better initialization: all images look alike to this network"
