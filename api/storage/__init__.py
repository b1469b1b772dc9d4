"""The artifact disk: free space, deletion of runs, and removal of garbage."""
