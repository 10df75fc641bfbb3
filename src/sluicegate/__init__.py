"""Sluicegate: one front door for generative models.

The way a request goes, one room a step:

    doors          parse the dialect (OpenAI, native jobs, chat API), render the answer in the same dialect
    admission      who asks, may they now
    scheduling     interactive calls: choose a backend; jobs: take in durably, claim, execute, recover
    backends       who does the work: OpenAI-compatible servers, the built-in language and picture models
    results        content-addressed pictures
    notifications  durable events for those who wait
    storage        under the floor: one database, one blob store
    observability  beside it all: logs, metrics, health

`app` joins the rooms; `settings` is the frozen tree that configures them; `errors` is the tree of what can go wrong.
"""

__version__ = "0.1.0"
