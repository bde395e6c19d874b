"""Events and status records: what log, metrics, history and dashboards read."""
