"""Model-parallel, pipelined training: one network over several processes, exactly equal to the unsplit one."""

from lightning_reid.pipeline.strategy import PipelineStrategy
from lightning_reid.pipeline.trace import ScheduleTrace

__all__ = ["PipelineStrategy", "ScheduleTrace"]
