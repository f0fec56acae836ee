"""What an edge model costs: latency per op, size, memory, and the budgets that they must keep."""
