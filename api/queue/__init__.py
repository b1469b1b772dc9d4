"""The queue of runs: waking workers, expiring leases, and the order of starting."""
