"""The diagnosis as a LangGraph state graph."""
