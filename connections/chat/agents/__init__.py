"""The agents that answer in the chat, and their tools. Code here may touch the asking user's rows, and no socket."""

from django.conf import settings

from connections.chat.agents.builtin import BuiltinAgent
from connections.chat.agents.protocol import Agent


def configured() -> Agent:
    """Make the agent that the settings name: the built-in one, unless CHAT_MODEL names a model."""
    name = getattr(settings, "CHAT_MODEL", "")
    if not name:
        return BuiltinAgent()
    from connections.chat.agents.openai_agent import OpenAIAgent

    return OpenAIAgent(name, getattr(settings, "CHAT_MODEL_URL", ""), getattr(settings, "CHAT_MODEL_KEY", ""))
