"""Tools: Python functions and MCP servers, run while the conversation goes on, inside scopes that nothing widens."""

from interplay.agents.tools.box import ToolBox
from interplay.agents.tools.policy import Policy
from interplay.agents.tools.tool import Call, Tool, ToolError, tool

__all__ = ["Call", "Policy", "Tool", "ToolBox", "ToolError", "tool"]
