"""Model-parallel, pipelined training: one network over several processes, exactly equal to the unsplit one."""

from lightning_reid.pipeline.strategy import PipelineStrategy

__all__ = ["PipelineStrategy"]
