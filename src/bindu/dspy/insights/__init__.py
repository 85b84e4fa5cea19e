"""The one read model behind pages, commands, the API and exporters."""

from __future__ import annotations

from bindu.dspy.canary.checking import Explanation, explain_decision
from bindu.dspy.insights.agents import agent_list
from bindu.dspy.insights.dataset import DatasetPreview, dataset_preview
from bindu.dspy.insights.diff import DiffPiece, PromptDiff, prompt_diff
from bindu.dspy.insights.live import newest_votes, pulse, recorded_task
from bindu.dspy.insights.log import audit_log, audit_trail, decision_log
from bindu.dspy.insights.status import agent_status, agent_vitals, experiment_plan, prompt_reports
from bindu.dspy.reports import AgentStatus, AgentVitals, PromptReport
from bindu.dspy.runs import RunReport, list_runs, run_report

__all__ = [
    "AgentStatus",
    "AgentVitals",
    "DatasetPreview",
    "DiffPiece",
    "Explanation",
    "PromptDiff",
    "PromptReport",
    "RunReport",
    "agent_list",
    "agent_status",
    "agent_vitals",
    "audit_log",
    "audit_trail",
    "dataset_preview",
    "decision_log",
    "experiment_plan",
    "explain_decision",
    "list_runs",
    "newest_votes",
    "prompt_diff",
    "prompt_reports",
    "pulse",
    "recorded_task",
    "run_report",
]
