"""OpenAI's dialect: the official clients work unchanged. Source: the OpenAI API reference."""
