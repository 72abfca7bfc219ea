"""The three protocols that callers and providers speak. In between, a request is an OpenAI chat body.

chat.py: OpenAI chat completions. messages.py: Anthropic messages. responses.py: OpenAI responses.
"""
