"""LiteLLM's proxy: the usual Python gateway in front of language models."""

import json
from dataclasses import dataclass

from bench.lane.contender import KEY, UPSTREAM_KEY, Ground, Launch
from bench.lane.peers import locked_version, python_peer
from bench.lane.scenarios import MODELS


@dataclass(frozen=True, slots=True)
class LiteLlm:
    """One worker, in its production mode, without a database."""

    name: str = "litellm"
    processes: int = 1

    def install(self) -> str:
        """By pip, from its lock; never 1.82.7 or 1.82.8, which were tampered with."""
        python_peer("litellm")
        return f"litellm {locked_version('litellm', 'litellm')}"

    def launch(self, ground: Ground) -> Launch:
        """Every model is one of the upstream's; JSON is YAML too."""
        base = f"http://127.0.0.1:{ground.upstream_port}/v1"
        settings = {
            "model_list": [
                {
                    "model_name": model,
                    "litellm_params": {"model": f"openai/{model}", "api_base": base, "api_key": UPSTREAM_KEY},
                }
                for model in MODELS
            ],
            "general_settings": {"master_key": KEY},
            "litellm_settings": {"telemetry": False, "request_timeout": 600, "num_retries": 0},
        }
        config = ground.folder / "config.yaml"
        config.write_text(json.dumps(settings, indent=1), "utf-8")
        program = python_peer("litellm") / "bin" / "litellm"
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(ground.port)]
        environment = {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the network for prices
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_TELEMETRY": "False",
            "NO_PROXY": "*",
        }
        return Launch(command=(*command, "--num_workers", "1"), environment=environment)
