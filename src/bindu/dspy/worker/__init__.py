"""The schedule without cron: of all replicas one runs each job, and what was missed is caught up with once."""

from bindu.dspy.worker.running import DueJob, EndedJob, Worker

__all__ = ["DueJob", "EndedJob", "Worker"]
