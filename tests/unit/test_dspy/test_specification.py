"""The specification's public surface, walked name by name."""

import importlib
import inspect
from abc import ABC
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints
from uuid import UUID, uuid4

import pytest

from bindu.settings import app_settings

REQUIRED = inspect.Parameter.empty

NAMES = {
    "bindu.dspy": ["train_async"],
    "bindu.dspy.train": ["train_async", "train"],
    "bindu.dspy.dataset": [
        "fetch_raw_task_data",
        "normalize_feedback",
        "extract_interactions",
        "build_golden_dataset",
        "convert_to_dspy_examples",
    ],
    "bindu.dspy.prompt_selector": ["select_prompt_with_canary"],
    "bindu.dspy.canary.controller": [
        "run_canary_controller",
        "compare_metrics",
        "promote_step",
        "rollback_step",
        "MIN_INTERACTIONS_THRESHOLD",
        "TRAFFIC_STEP",
    ],
    "bindu.dspy.prompts": [
        "get_active_prompt",
        "get_candidate_prompt",
        "insert_prompt",
        "update_prompt_traffic",
        "update_prompt_status",
        "zero_out_all_except",
    ],
    "bindu.dspy.extractor": ["clean_messages", "InteractionExtractor"],
    "bindu.dspy.models": ["Interaction", "PromptCandidate"],
    "bindu.dspy.signature": ["AgentSignature"],
    "bindu.dspy.program": ["AgentProgram"],
    "bindu.dspy.optimizer": [],
    "bindu.dspy.guard": ["ensure_system_stable"],
    "bindu.dspy.cli.train": [],
    "bindu.dspy.cli.canary": [],
    "bindu.utils.logging": ["get_logger"],
    "bindu.dspy.strategies.base": ["BaseExtractionStrategy"],
}

STRATEGY_HOMES = {
    "last_turn": "LastTurnStrategy",
    "full_history": "FullHistoryStrategy",
    "last_n_turns": "LastNTurnsStrategy",
    "first_n_turns": "FirstNTurnsStrategy",
    "context_window": "ContextWindowStrategy",
    "similarity": "SimilarityStrategy",
    "key_turns": "KeyTurnsStrategy",
    "sliding_window": "SlidingWindowStrategy",
    "summary_context": "SummaryContextStrategy",
}

SIGNATURES: dict[str, tuple[bool, dict[str, Any]]] = {  # path -> (is async, parameters with defaults)
    "bindu.dspy.train.train_async": (True, {"optimizer": REQUIRED, "strategy": None, "require_feedback": True}),
    "bindu.dspy.train.train": (False, {"optimizer": REQUIRED, "strategy": None, "require_feedback": True}),
    "bindu.dspy.dataset.build_golden_dataset": (
        True,
        {"limit": None, "strategy": None, "require_feedback": True, "min_feedback_threshold": 0.0},
    ),
    "bindu.dspy.dataset.convert_to_dspy_examples": (False, {"interactions": REQUIRED}),
    "bindu.dspy.prompt_selector.select_prompt_with_canary": (True, {}),
    "bindu.dspy.canary.controller.run_canary_controller": (True, {}),
    "bindu.dspy.canary.controller.compare_metrics": (False, {"active": REQUIRED, "candidate": REQUIRED}),
    "bindu.dspy.canary.controller.promote_step": (True, {"active": REQUIRED, "candidate": REQUIRED}),
    "bindu.dspy.canary.controller.rollback_step": (True, {"active": REQUIRED, "candidate": REQUIRED}),
    "bindu.dspy.guard.ensure_system_stable": (True, {"agent_id": None}),
    "bindu.dspy.prompts.get_active_prompt": (True, {}),
    "bindu.dspy.prompts.get_candidate_prompt": (True, {}),
    "bindu.dspy.prompts.update_prompt_traffic": (True, {"prompt_id": REQUIRED, "traffic": REQUIRED}),
    "bindu.dspy.prompts.update_prompt_status": (True, {"prompt_id": REQUIRED, "status": REQUIRED}),
    "bindu.dspy.prompts.zero_out_all_except": (True, {"prompt_ids": REQUIRED}),
}


def named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("module", NAMES)
def test_every_specified_name_is_importable_from_its_home(module: str) -> None:
    home = importlib.import_module(module)
    missing = [name for name in NAMES[module] if not hasattr(home, name)]
    assert missing == []


@pytest.mark.parametrize("module", STRATEGY_HOMES)
def test_every_strategy_has_the_specified_home_and_is_exported(module: str) -> None:
    name = STRATEGY_HOMES[module]
    home = importlib.import_module(f"bindu.dspy.strategies.{module}")
    assert getattr(home, name) is named(f"bindu.dspy.strategies.{name}")
    assert issubclass(getattr(home, name), named("bindu.dspy.strategies.BaseExtractionStrategy"))


@pytest.mark.parametrize("path", SIGNATURES)
def test_every_specified_function_takes_what_is_promised(path: str) -> None:
    is_async, promised = SIGNATURES[path]
    function = named(path)
    parameters = inspect.signature(function).parameters
    ours = {name: p.default for name, p in parameters.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD}
    added = [p for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert inspect.iscoroutinefunction(function) is is_async
    assert ours == promised
    assert list(ours) == list(promised)
    assert all(p.default is not REQUIRED for p in added)


def test_compare_metrics_answers_with_the_specified_words() -> None:
    returned = get_type_hints(named("bindu.dspy.canary.controller.compare_metrics"))["return"]
    assert set(get_args(returned)) == set(get_args(Literal["active", "candidate", None]))


def test_the_controller_has_the_specified_constants() -> None:
    assert named("bindu.dspy.canary.controller.MIN_INTERACTIONS_THRESHOLD") == 20
    assert named("bindu.dspy.canary.controller.TRAFFIC_STEP") == 0.1


def test_the_settings_have_the_specified_names_and_defaults() -> None:
    defaults = {name: field.default for name, field in type(app_settings.dspy).model_fields.items()}
    assert defaults["min_feedback_threshold"] == 0.0
    assert defaults["max_interactions_query_limit"] == 10_000
    assert isinstance(defaults["default_model"], str)


def test_the_settings_are_assignable_and_validated() -> None:
    before = app_settings.dspy.min_feedback_threshold
    try:
        app_settings.dspy.min_feedback_threshold = 0.6
        assert app_settings.dspy.min_feedback_threshold == 0.6
        with pytest.raises(ValueError, match="less than or equal to 1"):
            app_settings.dspy.min_feedback_threshold = 60
    finally:
        app_settings.dspy.min_feedback_threshold = before


def test_the_specifications_custom_strategy_works_as_printed() -> None:
    from bindu.dspy.extractor import InteractionExtractor
    from bindu.dspy.models import Interaction
    from bindu.dspy.strategies import BaseExtractionStrategy

    class CustomStrategy(BaseExtractionStrategy):
        def __init__(self, custom_param: str):
            self.custom_param = custom_param

        @property
        def name(self) -> str:
            return f"custom_{self.custom_param}"

        def extract(
            self,
            task_id: UUID,
            messages: list[dict[str, Any]],
            feedback_score: float | None = None,
            feedback_type: str | None = None,
        ) -> Interaction | None:
            return Interaction(
                id=task_id,
                user_input=messages[0]["content"],
                agent_output="...",
                feedback_score=feedback_score,
                feedback_type=feedback_type,
            )

    history = [{"role": "user", "content": " hello "}, {"role": "assistant", "content": "hi"}]
    task_id = uuid4()
    extractor = InteractionExtractor(strategy=CustomStrategy("x"))
    interaction = extractor.extract(task_id, history, 0.8, "rating")
    assert issubclass(BaseExtractionStrategy, ABC)
    assert (interaction.id, interaction.user_input, interaction.feedback_score) == (task_id, "hello", 0.8)


def test_the_specifications_strategy_constructor_works_as_printed() -> None:
    strategy = named("bindu.dspy.strategies.ContextWindowStrategy")(n_turns=3, system_prompt="Be helpful and concise")
    assert strategy.name == "context_window"


@pytest.mark.parametrize(
    ("given", "score", "kind"),
    [
        ({"rating": 1}, 0.2, "rating"),
        ({"rating": 5}, 1.0, "rating"),
        ({"thumbs_up": True}, 1.0, "thumbs_up"),
        ({"thumbs_up": False}, 0.0, "thumbs_up"),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_feedback_is_normalised_as_specified(given: Any, score: float | None, kind: str | None) -> None:
    assert named("bindu.dspy.dataset.normalize_feedback")(given) == (score, kind)


def test_the_facade_never_exports_a_function_named_train() -> None:
    import bindu.dspy

    assert "train" not in bindu.dspy.__all__
    assert inspect.ismodule(importlib.import_module("bindu.dspy.train"))


def test_every_module_of_the_specified_tree_exists() -> None:
    import bindu.dspy

    root = Path(bindu.dspy.__file__).parent
    tree = (
        "__init__ train dataset extractor models signature program optimizer prompts prompt_selector guard "
        "canary/__init__ canary/controller cli/train cli/canary strategies/__init__ strategies/base"
    )
    assert [name for name in tree.split() if not (root / f"{name}.py").is_file()] == []


def test_examples_for_dspy_carry_input_and_output() -> None:
    from bindu.dspy.models import Interaction

    [example] = named("bindu.dspy.dataset.convert_to_dspy_examples")([Interaction(uuid4(), "question", "answer", 1.0)])
    assert (example.input, example.output) == ("question", "answer")
    assert list(example.inputs()) == ["input"]
