"""The model that training answers with: whether a key is there, and on request whether it answers."""

from __future__ import annotations

from concurrent.futures import TimeoutError as SlowError
from importlib.util import find_spec
from typing import Final

from bindu.dspy.cli.checkup.finding import Finding, ok, problem, warning
from bindu.dspy.cli.config import without_user
from bindu.dspy.errors import BinduError
from bindu.settings import app_settings, has_variable

__all__ = ["asked_model", "model_finding"]

PATIENCE: Final = 20.0  # seconds
CALLS: Final = 3  # one, and two more where it fails in a way that may pass

_KEYS: Final = {  # where the name does not follow from the provider's
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "bedrock": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"),
    "vertex_ai": ("GOOGLE_APPLICATION_CREDENTIALS", "VERTEXAI_PROJECT"),
    "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),
    "huggingface": ("HF_TOKEN", "HUGGINGFACE_API_KEY"),
}
_KEYLESS: Final = ("ollama", "ollama_chat")


def model_finding() -> Finding:
    """Nobody is called."""
    settings = app_settings.dspy
    model = settings.default_model
    if settings.api_key is not None and settings.api_key.get_secret_value():
        return ok("model", f"{model}, with the key in DSPY__API_KEY.")
    provider = model.partition("/")[0].lower()
    names = _KEYS.get(provider, (f"{provider.upper()}_API_KEY",))
    known = next((name for name in names if has_variable(name)), None)
    if known is not None:
        return ok("model", f"{model}, with the key in {known}.")
    if provider in _KEYLESS or settings.api_base:
        where = f" at {without_user(settings.api_base)}" if settings.api_base else ""
        return ok("model", f"{model}{where}, without a key.")
    advice = f"Set DSPY__API_KEY, or {' or '.join(names)} in the environment. Serving needs neither."
    return warning("model", f"{model}, and no key for training.", advice)


def asked_model() -> Finding:
    """Ask it for one word, as a training run does before anything else."""
    if find_spec("dspy") is None:
        return warning("model answers", "DSPy is not installed.", "Run pip install 'bindu-dspy[train]'.")
    from bindu.dspy.engine import CountingEngine  # noqa: PLC0415 - DSPy loads only where it is needed
    from bindu.dspy.engine.budget import Budget  # noqa: PLC0415
    from bindu.dspy.engine.parallel import start_daemon  # noqa: PLC0415
    from bindu.dspy.engine.speakers import speakers_of  # noqa: PLC0415

    settings = app_settings.dspy
    engine = CountingEngine(speakers_of(settings), budget=Budget(max_calls=CALLS))
    asked = start_daemon(lambda: engine.preflight(("agent",)))
    advice = "Check DSPY__DEFAULT_MODEL, DSPY__API_BASE and the key."
    try:
        asked.result(PATIENCE)
    except SlowError:
        return problem("model answers", f"{settings.default_model} said nothing for {PATIENCE:.0f} seconds.", advice)
    except BinduError as error:
        return problem("model answers", str(error), advice)
    return ok("model answers", f"{settings.default_model} does.")
