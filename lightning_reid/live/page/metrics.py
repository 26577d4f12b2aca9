"""The numbers of a live view as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable

from lightning_reid.live.page.camera_view import CameraView
from lightning_reid.live.page.live_view import LiveView

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = dict[str, str]
Sample = tuple[Labels, float | None]


def metrics_text(view: LiveView) -> str:
    """All metrics of a view, in the text format of Prometheus; what was not measured is left out."""
    with view.lock:
        now, cameras, counters = view.monotonic(), list(view.cameras.values()), view.counters()
        lines: list[str] = []
        for name, kind, text, samples in (*_of_cameras(cameras, now), *_of_stages(cameras), *_of_all(counters)):
            lines += _family(f"lightning_reid_{name}", kind, text, samples)
    return "\n".join(lines) + "\n"


def _of_cameras(cameras: list[CameraView], now: float) -> Iterable[tuple[str, str, str, list[Sample]]]:
    rates = [(one, one.rates(now)) for one in cameras]
    for name, text in (
        ("captured", "Frames a second that the camera captured."),
        ("processed", "Frames a second that were tracked and matched."),
        ("skipped", "Frames a second that were captured and dropped."),
    ):
        yield f"camera_{name}_fps", "gauge", text, [({"camera": one.name}, rate[name]) for one, rate in rates]
    yield "camera_live", "gauge", "1 while frames come.", [({"camera": one.name}, float(one.state(now)[0] == "live")) for one in cameras]
    counted = [("processed", "Frames that were matched."), ("skipped", "Frames that were captured and dropped.")]
    for name, text in counted:
        yield f"camera_{name}_frames_total", "counter", text, [({"camera": one.name}, float(getattr(one, name))) for one in cameras]
    latencies = [({"camera": one.name, "quantile": str(share)}, one.latency(share)) for one in cameras for share in (0.5, 0.95)]
    yield "camera_latency_seconds", "gauge", "From capture to identity, of the last frames.", latencies


def _of_stages(cameras: list[CameraView]) -> Iterable[tuple[str, str, str, list[Sample]]]:
    stages = [({"camera": camera.name, "stage": one.stage}, one) for camera in cameras for one in camera.stages()]
    for name, kind, text in (
        ("processed_total", "counter", "Items that the stage has processed."),
        ("dropped_total", "counter", "Items that were dropped because the stage lagged."),
        ("queued", "gauge", "Items that wait."),
        ("latency_seconds", "gauge", "From capture to the end of the stage, 95th percentile."),
    ):
        value = name.removesuffix("_total").removesuffix("_seconds")
        yield f"stage_{name}", kind, text, [(labels, float(getattr(one, value))) for labels, one in stages]


def _of_all(counters: dict[str, float | None]) -> Iterable[tuple[str, str, str, list[Sample]]]:
    for name, key, kind, text in (
        ("people", "people_now", "gauge", "People in view of live cameras."),
        ("identities", "identities", "gauge", "People who are shown, those who left lately included."),
        ("matches_total", "matches", "counter", "Matches that were announced."),
        ("matches_undone_total", "undone", "counter", "Matches that were undone."),
        ("refused_total", "refused", "counter", "Messages that the matcher refused."),
        ("browsers", "browsers", "gauge", "Browsers that watch."),
        ("page_latency_seconds", "latency", "gauge", "From capture to page, 95th percentile of the last pictures."),
    ):
        yield name, kind, text, [({}, counters[key])]


def _family(name: str, kind: str, text: str, samples: list[Sample]) -> list[str]:
    rows = [f"{name}{_written(labels)} {value:.10g}" for labels, value in samples if value is not None]
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *rows] if rows else []


def _written(labels: Labels) -> str:
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
