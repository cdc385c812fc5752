"""The chat page: a case is discussed on the left, and its evidence stands on the right to look at."""
