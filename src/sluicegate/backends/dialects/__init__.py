"""Dialects of chat, completion and embeddings, and how to say in one what was said in another. No I/O.

translation             the contract, and its two forms: line by line, and all at once
lines, events           cutting a stream into lines and into server-sent events
bodies, failures        reading JSON with errors that help; errors in either dialect
openai, ollama          the words of each dialect
sampling, pictures      what the two dialects call the same thing
to_ollama, to_openai    a caller's request in the other dialect, ready to be sent
answers_to_openai, answers_to_ollama, embeddings, logprobs      what comes back, in the caller's dialect
models                  lists of models
"""
