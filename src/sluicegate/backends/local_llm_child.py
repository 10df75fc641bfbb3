"""The process of kind "local-llm": llama.cpp's own server with one GGUF file, on a free loopback port.

Started as ``python -m sluicegate.backends.local_llm_child``, by `SupervisedProcess` only. Its key comes in the
environment, which other users of the machine cannot read as they can the arguments. SIGTERM ends it at once.
"""

import argparse
import http.client
import os
import threading
from collections.abc import Sequence
from typing import Any

from sluicegate.backends.openmp import ensure_openmp
from sluicegate.supervision import exit_with_parent, tell_ready

KEY_VARIABLE = "SLUICEGATE_LOCAL_LLM_KEY"
_HEALTH_PAUSE = 0.01


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until the parent goes or a signal comes; never returns while the server is well."""
    ensure_openmp("sluicegate.backends.local_llm_child")
    options = _parser().parse_args(arguments)
    # The server's own threads would survive the interpreter's orderly end.
    exit_with_parent(lambda: os._exit(0))
    server = _serve(options, os.environ.pop(KEY_VARIABLE))
    host, port = server.listening_address.removeprefix("http://").split(":")
    _await_health(host, int(port))
    tell_ready(url=f"http://{host}:{port}/v1")
    threading.Event().wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sluicegate.backends.local_llm_child", description=__doc__)
    parser.add_argument("--model", required=True, help="the GGUF file")
    parser.add_argument("--alias", required=True, help="the model's name for callers")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--slots", type=int, default=4, help="answers made at once")
    parser.add_argument("--slot-tokens", type=int, default=2048, help="context of each, in tokens")
    parser.add_argument("--answer-tokens", type=int, default=512, help="longest answer when the caller sets none")
    parser.add_argument("--connections", type=int, default=16, help="connections served at once; others wait")
    return parser


def _serve(options: argparse.Namespace, key: str) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.alias}
    params.api_keys = [key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.slot_tokens
    # A model this small may repeat itself to the end of its context; a caller's own max_tokens wins.
    params.n_predict = options.answer_tokens
    params.n_threads_http = options.connections
    # Finished prompts are kept for the next turn of a talk, but by default in up to 8 GB.
    params.cache_ram_mib = 64
    params.endpoint_metrics = True
    params.ui = False
    params.verbosity = 0
    return xllamacpp.Server(params)


def _await_health(host: str, port: int) -> None:
    pause = threading.Event()
    while True:
        connection = http.client.HTTPConnection(host, port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        pause.wait(_HEALTH_PAUSE)


if __name__ == "__main__":
    main()
