"""Who is told of each sealed tick, and in which shape: metrics, status, the journal, the log."""
