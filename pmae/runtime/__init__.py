"""What every process needs of its machine: logs, files, memory, addresses, signals."""
